//! Row locks of one instance: who holds what, who waits, and whether a wait would never end.
//!
//! Queues are FIFO. A holder of a shared lock that wants it exclusive goes before everybody who waits for
//! the key, because nobody else can be served first anyway. Each owner waits for at most one key. When a
//! wait would close a cycle the requester is refused: it is the cheapest victim to find, and undoing its
//! transaction always breaks the cycle.
//!
//! Pure: it says who may go on, the caller wakes them.

use std::collections::{HashMap, HashSet, VecDeque};

use smallvec::SmallVec;

use crate::ids::{Key, KeyMap};

/// Who locks: a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub u64);

/// How a key is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockMode {
    /// Together with other shared locks.
    Shared,
    /// Alone.
    Exclusive,
}

impl LockMode {
    /// True if both may be held at once by different owners.
    fn compatible(self, other: LockMode) -> bool {
        self == LockMode::Shared && other == LockMode::Shared
    }
}

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// The owner holds the lock.
    Granted,
    /// The owner stands in the queue; it will be among those that a release or a cancellation wakes.
    Waiting,
    /// Waiting would never end. The request is forgotten, the owner's other locks remain.
    Deadlock,
}

#[derive(Debug)]
struct Waiter {
    owner: Owner,
    mode: LockMode,
    /// The owner holds the key shared and wants it exclusive.
    upgrade: bool,
}

#[derive(Debug, Default)]
struct Entry {
    holders: SmallVec<[(Owner, LockMode); 1]>,
    queue: VecDeque<Waiter>,
}

impl Entry {
    fn admits(&self, mode: LockMode) -> bool {
        self.holders.iter().all(|(_, held)| held.compatible(mode))
    }
    /// Serves the queue from its front as far as possible.
    fn serve(&mut self, woken: &mut Vec<(Owner, bool)>) {
        while let Some(front) = self.queue.front() {
            if front.upgrade {
                if self.holders.len() != 1 {
                    return;
                }
                self.holders[0].1 = LockMode::Exclusive;
            } else if self.admits(front.mode) {
                self.holders.push((front.owner, front.mode));
            } else {
                return;
            }
            woken.push((front.owner, front.upgrade));
            self.queue.pop_front();
        }
    }
}

/// All row locks of an instance.
#[derive(Debug, Default)]
pub struct LockTable {
    keys: KeyMap<Entry>,
    held: HashMap<Owner, Vec<Key>>,
    waiting: HashMap<Owner, Key>,
}

impl LockTable {
    /// A table without locks.
    pub fn new() -> LockTable {
        LockTable::default()
    }

    /// Asks for a lock. An owner that waits must not ask for another one.
    pub fn acquire(&mut self, owner: Owner, key: &Key, mode: LockMode) -> Acquired {
        debug_assert!(!self.waiting.contains_key(&owner), "an owner waits for one key at a time");
        let entry = match self.keys.get_mut(key) {
            Some(entry) => entry,
            None => self.keys.entry(key.clone()).or_default(),
        };
        let mine = entry.holders.iter().position(|(holder, _)| *holder == owner);
        let upgrade = match mine {
            Some(index) if entry.holders[index].1 == LockMode::Exclusive || mode == LockMode::Shared => {
                return Acquired::Granted;
            }
            Some(index) if entry.holders.len() == 1 => {
                entry.holders[index].1 = LockMode::Exclusive;
                return Acquired::Granted;
            }
            Some(_) => true,
            None if entry.queue.is_empty() && entry.admits(mode) => {
                entry.holders.push((owner, mode));
                self.held.entry(owner).or_default().push(key.clone());
                return Acquired::Granted;
            }
            None => false,
        };
        let place = match upgrade {
            true => entry.queue.iter().take_while(|waiter| waiter.upgrade).count(),
            false => entry.queue.len(),
        };
        entry.queue.insert(place, Waiter { owner, mode, upgrade });
        self.waiting.insert(owner, key.clone());
        if self.closes_cycle(owner) {
            // Nobody could be served with the request there who could not be without it: no wakes.
            self.leave_queue(owner);
            return Acquired::Deadlock;
        }
        Acquired::Waiting
    }

    /// Ends a wait without the lock. Returns `None` if the owner does not wait (it may just have been
    /// granted the lock), otherwise who may go on because of it.
    pub fn cancel(&mut self, owner: Owner) -> Option<Vec<Owner>> {
        let key = self.leave_queue(owner)?;
        let mut woken = Vec::new();
        self.serve(&key, &mut woken);
        Some(woken)
    }

    /// Gives up everything the owner holds or waits for. Returns who may go on, in the order served.
    pub fn release_all(&mut self, owner: Owner) -> Vec<Owner> {
        let mut woken = self.cancel(owner).unwrap_or_default();
        for key in self.held.remove(&owner).unwrap_or_default() {
            if let Some(entry) = self.keys.get_mut(&key) {
                entry.holders.retain(|(holder, _)| *holder != owner);
            }
            self.serve(&key, &mut woken);
        }
        woken
    }

    /// Who holds the key, and how.
    pub fn holders(&self, key: &[u8]) -> impl Iterator<Item = (Owner, LockMode)> + '_ {
        self.keys.get(key).into_iter().flat_map(|entry| entry.holders.iter().copied())
    }

    /// True if the owner stands in a queue.
    pub fn is_waiting(&self, owner: Owner) -> bool {
        self.waiting.contains_key(&owner)
    }

    /// How many keys are locked.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True if nothing is locked.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many owners wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn leave_queue(&mut self, owner: Owner) -> Option<Key> {
        let key = self.waiting.remove(&owner)?;
        if let Some(entry) = self.keys.get_mut(&key) {
            entry.queue.retain(|waiter| waiter.owner != owner);
        }
        Some(key)
    }

    fn serve(&mut self, key: &Key, woken: &mut Vec<Owner>) {
        let Some(entry) = self.keys.get_mut(key) else { return };
        let mut served = Vec::new();
        entry.serve(&mut served);
        if entry.holders.is_empty() && entry.queue.is_empty() {
            self.keys.remove(key);
        }
        for (owner, upgrade) in served {
            self.waiting.remove(&owner);
            if !upgrade {
                self.held.entry(owner).or_default().push(key.clone());
            }
            woken.push(owner);
        }
    }

    /// Whether the owner, who waits, waits for itself through others.
    ///
    /// A waiter waits for the holders it is not compatible with and for everybody before it in the queue.
    /// Each key's queue is walked once, however many of its waiters are reached, so the walk is linear.
    fn closes_cycle(&self, start: Owner) -> bool {
        let mut reached = HashSet::from([start]);
        let mut todo = vec![start];
        let mut walked: HashMap<&Key, usize> = HashMap::new();
        while let Some(owner) = todo.pop() {
            let Some((key, entry)) = self.waiting.get(&owner).and_then(|key| self.keys.get_key_value(key))
            else {
                continue;
            };
            let Some(place) = entry.queue.iter().position(|waiter| waiter.owner == owner) else { continue };
            let mode = entry.queue[place].mode;
            let from = walked.get(key).copied().unwrap_or(0);
            walked.insert(key, from.max(place));
            let holders = entry.holders.iter().filter(|(_, held)| !held.compatible(mode));
            let before = entry.queue.range(from.min(place)..place).map(|waiter| waiter.owner);
            for next in holders.map(|(holder, _)| *holder).chain(before).filter(|next| *next != owner) {
                if next == start {
                    return true;
                }
                if reached.insert(next) {
                    todo.push(next);
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> Key {
        Key::copy_from_slice(&[n])
    }

    #[test]
    fn shared_locks_go_together_and_an_exclusive_one_waits_for_all_of_them() {
        let mut table = LockTable::new();
        assert_eq!(table.acquire(Owner(1), &key(1), LockMode::Shared), Acquired::Granted);
        assert_eq!(table.acquire(Owner(2), &key(1), LockMode::Shared), Acquired::Granted);
        assert_eq!(table.acquire(Owner(3), &key(1), LockMode::Exclusive), Acquired::Waiting);
        assert!(table.release_all(Owner(1)).is_empty());
        assert_eq!(table.release_all(Owner(2)), vec![Owner(3)]);
    }

    #[test]
    fn waiters_are_served_in_the_order_in_which_they_came() {
        let mut table = LockTable::new();
        table.acquire(Owner(1), &key(1), LockMode::Exclusive);
        for owner in [2, 3, 4] {
            let mode = if owner == 4 { LockMode::Exclusive } else { LockMode::Shared };
            assert_eq!(table.acquire(Owner(owner), &key(1), mode), Acquired::Waiting);
        }
        // A latecomer that would be compatible with the next ones does not overtake the exclusive waiter.
        assert_eq!(table.acquire(Owner(5), &key(1), LockMode::Shared), Acquired::Waiting);
        assert_eq!(table.release_all(Owner(1)), vec![Owner(2), Owner(3)]);
        assert!(table.release_all(Owner(2)).is_empty());
        assert_eq!(table.release_all(Owner(3)), vec![Owner(4)]);
        assert_eq!(table.release_all(Owner(4)), vec![Owner(5)]);
        assert!(table.release_all(Owner(5)).is_empty());
        assert!(table.is_empty() && table.held.is_empty() && table.waiting.is_empty());
    }

    #[test]
    fn a_waiter_that_gives_up_lets_those_behind_it_go_on() {
        let mut table = LockTable::new();
        table.acquire(Owner(1), &key(1), LockMode::Shared);
        assert_eq!(table.acquire(Owner(2), &key(1), LockMode::Exclusive), Acquired::Waiting);
        assert_eq!(table.acquire(Owner(3), &key(1), LockMode::Shared), Acquired::Waiting);
        assert_eq!(table.cancel(Owner(2)), Some(vec![Owner(3)]));
        assert_eq!(table.cancel(Owner(3)), None);
    }

    #[test]
    fn an_upgrade_goes_before_the_queue() {
        let mut table = LockTable::new();
        table.acquire(Owner(1), &key(1), LockMode::Shared);
        assert_eq!(table.acquire(Owner(2), &key(1), LockMode::Exclusive), Acquired::Waiting);
        assert_eq!(table.acquire(Owner(1), &key(1), LockMode::Exclusive), Acquired::Granted);
        let mut table = LockTable::new();
        table.acquire(Owner(1), &key(1), LockMode::Shared);
        table.acquire(Owner(2), &key(1), LockMode::Shared);
        assert_eq!(table.acquire(Owner(3), &key(1), LockMode::Exclusive), Acquired::Waiting);
        assert_eq!(table.acquire(Owner(1), &key(1), LockMode::Exclusive), Acquired::Waiting);
        assert_eq!(table.release_all(Owner(2)), vec![Owner(1)]);
        assert_eq!(table.release_all(Owner(1)), vec![Owner(3)]);
    }

    #[test]
    fn two_owners_that_wait_for_each_other_are_a_deadlock_and_the_second_is_refused() {
        let mut table = LockTable::new();
        table.acquire(Owner(1), &key(1), LockMode::Exclusive);
        table.acquire(Owner(2), &key(2), LockMode::Exclusive);
        assert_eq!(table.acquire(Owner(1), &key(2), LockMode::Exclusive), Acquired::Waiting);
        assert_eq!(table.acquire(Owner(2), &key(1), LockMode::Exclusive), Acquired::Deadlock);
        assert!(!table.is_waiting(Owner(2)));
        assert_eq!(table.release_all(Owner(2)), vec![Owner(1)]);
    }

    #[test]
    fn two_upgrades_of_one_key_are_a_deadlock() {
        let mut table = LockTable::new();
        table.acquire(Owner(1), &key(1), LockMode::Shared);
        table.acquire(Owner(2), &key(1), LockMode::Shared);
        assert_eq!(table.acquire(Owner(1), &key(1), LockMode::Exclusive), Acquired::Waiting);
        assert_eq!(table.acquire(Owner(2), &key(1), LockMode::Exclusive), Acquired::Deadlock);
        assert_eq!(table.release_all(Owner(2)), vec![Owner(1)]);
    }

    #[test]
    fn a_cycle_through_a_queue_is_found() {
        let mut table = LockTable::new();
        table.acquire(Owner(1), &key(1), LockMode::Shared);
        table.acquire(Owner(3), &key(2), LockMode::Exclusive);
        assert_eq!(table.acquire(Owner(2), &key(1), LockMode::Exclusive), Acquired::Waiting);
        // 3 waits only because 2 stands before it; 2 waits for 1; so 1 must not wait for 3.
        assert_eq!(table.acquire(Owner(3), &key(1), LockMode::Shared), Acquired::Waiting);
        assert_eq!(table.acquire(Owner(1), &key(2), LockMode::Shared), Acquired::Deadlock);
    }

    /// Whether some set of waiting owners can never go on, found without the table's own graph: owners
    /// that do not wait finish and release, again and again; who is left is stuck.
    fn somebody_is_stuck(table: &LockTable) -> bool {
        let entries: Vec<_> = table.keys.values().collect();
        let mut done: HashSet<Owner> = table.held.keys().copied().collect();
        done.retain(|owner| !table.waiting.contains_key(owner));
        loop {
            let before = done.len();
            for entry in &entries {
                let mut free = true;
                for (place, waiter) in entry.queue.iter().enumerate() {
                    let ahead = entry.queue.iter().take(place).all(|other| done.contains(&other.owner));
                    let holders = entry.holders.iter().all(|(holder, held)| {
                        *holder == waiter.owner || held.compatible(waiter.mode) || done.contains(holder)
                    });
                    free &= ahead && holders;
                    if free {
                        done.insert(waiter.owner);
                    }
                }
            }
            if done.len() == before {
                return table.waiting.keys().any(|owner| !done.contains(owner));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
        #[test]
        fn locks_exclude_each_other_and_nobody_is_ever_stuck(
            steps in proptest::collection::vec((0u64..6, 0u8..4, 0u8..8), 1..80)
        ) {
            let mut table = LockTable::new();
            for (owner, at, what) in steps {
                let owner = Owner(owner);
                match what {
                    0 => { table.release_all(owner); }
                    1 => { table.cancel(owner); }
                    _ if table.is_waiting(owner) => {}
                    _ => {
                        let mode = if what < 5 { LockMode::Exclusive } else { LockMode::Shared };
                        if table.acquire(owner, &key(at), mode) == Acquired::Deadlock {
                            table.release_all(owner);
                        }
                    }
                }
                for entry in table.keys.values() {
                    let exclusive = entry.holders.iter().filter(|(_, m)| *m == LockMode::Exclusive).count();
                    prop_assert!(exclusive == 0 || entry.holders.len() == 1);
                    prop_assert!(!entry.holders.is_empty(), "a queue without a holder would never move");
                }
                prop_assert!(!somebody_is_stuck(&table));
            }
            for owner in 0..6 {
                table.release_all(Owner(owner));
            }
            prop_assert!(table.is_empty() && table.waiting.is_empty() && table.held.is_empty());
        }
    }
}
