//! Mistakes made on purpose, so that the simulation and the model are known to find them.
//!
//! Only with the feature `mistakes`, which the shipped binary does not ask for, and even then only while
//! somebody on the same thread holds a [`Making`]: where a build of the whole workspace turns the feature on
//! for everybody, nothing changes.

/// A rule of the protocol that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A recoverer that finds enough accepts for a fast commit proposes ABORT nevertheless.
    SkipMustCommit,
    /// A storage node that lacks the bases of a proposal refuses it, instead of learning them.
    BaseNotLearnt,
    /// A storage node asked about a decided transaction answers as if it had never heard of it.
    DecisionForgotten,
    /// A storage node lets an instance take the seat while the holder may still read.
    LeaseForgotten,
}

#[cfg(feature = "mistakes")]
thread_local! {
    static MADE: std::cell::Cell<Option<Mistake>> = const { std::cell::Cell::new(None) };
}

/// While it exists, its mistake is made on this thread.
#[cfg(feature = "mistakes")]
#[derive(Debug)]
pub struct Making(());

/// Begins to make a mistake on this thread.
#[cfg(feature = "mistakes")]
pub fn make(mistake: Mistake) -> Making {
    MADE.set(Some(mistake));
    Making(())
}

#[cfg(feature = "mistakes")]
impl Drop for Making {
    fn drop(&mut self) {
        MADE.set(None);
    }
}

/// Whether the mistake is made now.
#[cfg(feature = "mistakes")]
pub(crate) fn made(mistake: Mistake) -> bool {
    MADE.get() == Some(mistake)
}

/// Never: this build cannot make mistakes on purpose.
#[cfg(not(feature = "mistakes"))]
pub(crate) const fn made(_mistake: Mistake) -> bool {
    false
}
