//! A graph of "must have come before", and its cycles: each is a contradiction.

use std::collections::VecDeque;

/// Why one thing must have come before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Both wrote the list, in this order.
    WriteWrite(u32),
    /// The second saw the first's write.
    WriteRead(u32),
    /// The first did not see the second's write.
    ReadWrite(u32),
    /// The first had ended before the second began.
    Time,
    /// The same connection did both.
    Session,
    /// A transaction reads before it commits.
    Own,
    /// What an atomic transaction built on may not have changed since its snapshot.
    Unchanged(u32),
}

/// Nodes are numbers; the caller knows what they stand for.
#[derive(Debug, Default)]
pub(super) struct Graph {
    edges: Vec<Vec<(u32, Why)>>,
}

impl Graph {
    pub(super) fn node(&mut self) -> u32 {
        self.edges.push(Vec::new());
        u32::try_from(self.edges.len() - 1).expect("fewer than four thousand million nodes")
    }

    pub(super) fn edge(&mut self, from: u32, to: u32, why: Why) {
        if from != to {
            self.edges[from as usize].push((to, why));
        }
    }

    /// One short cycle of each strongly connected component, at most `limit` of them.
    pub(super) fn cycles(&self, limit: usize) -> Vec<Vec<(u32, Why)>> {
        let components = self.components();
        let mut inside = vec![u32::MAX; self.edges.len()];
        let knots: Vec<Vec<u32>> = components.into_iter().filter(|part| part.len() > 1).take(limit).collect();
        for (number, knot) in (0..).zip(&knots) {
            for node in knot {
                inside[*node as usize] = number;
            }
        }
        (0..).zip(&knots).map(|(number, knot)| self.short_cycle(knot, number, &inside)).collect()
    }

    /// The shortest cycle through some of a component's nodes.
    fn short_cycle(&self, knot: &[u32], number: u32, inside: &[u32]) -> Vec<(u32, Why)> {
        const STARTS: usize = 64;
        let found = knot.iter().take(STARTS).filter_map(|start| self.cycle_through(*start, number, inside));
        found.min_by_key(Vec::len).expect("every node of a component is on a cycle")
    }

    /// The shortest way from a node back to it: each node with the reason for the next one.
    fn cycle_through(&self, start: u32, number: u32, inside: &[u32]) -> Option<Vec<(u32, Why)>> {
        let mut came_from = std::collections::HashMap::new();
        let mut waiting = VecDeque::from([start]);
        while let Some(node) = waiting.pop_front() {
            for (to, why) in &self.edges[node as usize] {
                if inside[*to as usize] != number || came_from.contains_key(to) {
                    continue;
                }
                came_from.insert(*to, (node, *why));
                if *to != start {
                    waiting.push_back(*to);
                    continue;
                }
                let mut cycle = Vec::new();
                let mut at = start;
                loop {
                    let (before, why) = came_from[&at];
                    cycle.push((before, why));
                    at = before;
                    if at == start {
                        cycle.reverse();
                        return Some(cycle);
                    }
                }
            }
        }
        None
    }

    /// Tarjan's strongly connected components, without recursion: histories are long.
    fn components(&self) -> Vec<Vec<u32>> {
        const UNSEEN: u32 = u32::MAX;
        let count = self.edges.len();
        let (mut index, mut low) = (vec![UNSEEN; count], vec![0_u32; count]);
        let (mut on_stack, mut stack) = (vec![false; count], Vec::new());
        let (mut next, mut components) = (0_u32, Vec::new());
        let mut work: Vec<(u32, usize)> = Vec::new();
        for root in 0..count {
            if index[root] != UNSEEN {
                continue;
            }
            work.push((u32::try_from(root).expect("nodes are numbered by u32"), 0));
            while let Some((node, at)) = work.pop() {
                let here = node as usize;
                if at == 0 {
                    (index[here], low[here]) = (next, next);
                    next += 1;
                    stack.push(node);
                    on_stack[here] = true;
                }
                if let Some((to, _)) = self.edges[here].get(at) {
                    work.push((node, at + 1));
                    let there = *to as usize;
                    if index[there] == UNSEEN {
                        work.push((*to, 0));
                    } else if on_stack[there] {
                        low[here] = low[here].min(index[there]);
                    }
                    continue;
                }
                if let Some((parent, _)) = work.last() {
                    let parent = *parent as usize;
                    low[parent] = low[parent].min(low[here]);
                }
                if low[here] == index[here] {
                    let mut component = Vec::new();
                    while let Some(member) = stack.pop() {
                        on_stack[member as usize] = false;
                        component.push(member);
                        if member == node {
                            break;
                        }
                    }
                    components.push(component);
                }
            }
        }
        components
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(u32, u32)]) -> Graph {
        let mut graph = Graph::default();
        for _ in 0..8 {
            graph.node();
        }
        for (from, to) in edges {
            graph.edge(*from, *to, Why::Time);
        }
        graph
    }

    #[test]
    fn acyclic_graph_has_no_cycles() {
        assert!(graph(&[(0, 1), (1, 2), (0, 2), (3, 2), (2, 7)]).cycles(9).is_empty());
    }

    #[test]
    fn shortest_cycle_of_each_component_is_found() {
        let found = graph(&[(0, 1), (1, 2), (2, 3), (3, 0), (2, 0), (4, 5), (5, 4), (0, 4)]).cycles(9);
        let mut lengths: Vec<usize> = found.iter().map(Vec::len).collect();
        lengths.sort_unstable();
        assert_eq!(lengths, [2, 3]);
    }
}
