//! The decided history on its way to subscribers: as `node/storage/src/feed.rs` and `server.rs`.

use std::collections::VecDeque;

use node_core::ids::Vector;
use node_core::wire::{FeedItem, Reply};

use super::Node;
use crate::context::Context;
use crate::net::Address;
use crate::rows::Backlog;

/// Items of stored history sent at once.
const BACKLOG_ITEMS: usize = 32;

struct Chunk {
    items: Vec<FeedItem>,
    after: Vector,
}

/// The newest pieces of history.
pub(crate) struct Feed {
    chunks: VecDeque<Chunk>,
    begin: Vector,
    end: Vector,
    chunks_max: usize,
}

impl Feed {
    pub(crate) fn new(begin: Vector, chunks_max: usize) -> Feed {
        Feed { chunks: VecDeque::new(), end: begin.clone(), begin, chunks_max }
    }
    pub(crate) fn end(&self) -> &Vector {
        &self.end
    }
    pub(crate) fn push(&mut self, items: Vec<FeedItem>, applied: &Vector) {
        for item in &items {
            match item {
                FeedItem::Commit(txn) => self.end.advance(txn.id.seat, txn.id.position()),
                FeedItem::Advance { seat, to } => self.end.advance(*seat, *to),
            };
        }
        self.chunks.push_back(Chunk { items, after: self.end.clone() });
        while self.chunks.len() > self.chunks_max
            && let Some(chunk) = self.chunks.pop_front_if(|chunk| applied.covers(&chunk.after))
        {
            self.begin = chunk.after;
        }
    }
}

/// What a subscriber at a vector lacks of the items.
fn lacking(items: &[FeedItem], at: &Vector) -> Vec<FeedItem> {
    let lacks = |item: &&FeedItem| match item {
        FeedItem::Commit(txn) => !at.sees(txn.id),
        FeedItem::Advance { seat, to } => at.get(*seat) < *to,
    };
    items.iter().filter(lacks).cloned().collect()
}

impl Node {
    /// An instance wants the history from a vector on.
    pub(super) fn subscribe(
        &mut self,
        from: Address,
        generation: u64,
        mut at: Vector,
        context: &mut Context,
    ) {
        let Some(live) = &self.live else { return };
        if !live.registry.current(from.run, generation) {
            return;
        }
        let low = live.low.clone();
        let mut replies = Vec::new();
        let end = live.feed.end.clone();
        let reset = |replies: &mut Vec<Reply>| {
            replies.push(Reply::FeedReset { at: end.clone() });
            end.clone()
        };
        if at.is_empty() && !live.feed.end.is_empty() {
            at = reset(&mut replies);
        }
        while !at.covers(&live.feed.begin) {
            match self.rows.backlog(&at, BACKLOG_ITEMS) {
                Backlog::Piece(items, to) => {
                    assert!(!items.is_empty(), "the stored history of node {} has a gap", self.index);
                    replies.push(Reply::Feed { items, low: low.clone() });
                    at.join(&to);
                }
                Backlog::Gone => at = reset(&mut replies),
            }
        }
        for chunk in &live.feed.chunks {
            let items = lacking(&chunk.items, &at);
            if !items.is_empty() {
                replies.push(Reply::Feed { items, low: low.clone() });
            }
            at.join(&chunk.after);
        }
        if replies.is_empty() {
            replies.push(Reply::Feed { items: Vec::new(), low });
        }
        for reply in replies {
            self.say(from.place, generation, reply, context);
        }
        if let Some(live) = &mut self.live {
            live.registry.subscribed(from.run, at);
        }
    }

    /// New history, or a new low-water mark, for every subscriber.
    pub(super) fn tell_subscribers(&mut self, items: &[FeedItem], context: &mut Context) {
        let Some(live) = &mut self.live else { return };
        let (end, low) = (live.feed.end.clone(), live.low.clone());
        let mut messages = Vec::new();
        for (to, generation, at) in live.registry.subscribers() {
            let items = lacking(items, at);
            at.join(&end);
            messages.push((to, generation, Reply::Feed { items, low: low.clone() }));
        }
        for (to, generation, reply) in messages {
            self.say(to, generation, reply, context);
        }
    }
}
