//! What everybody in the world shares: the time, chance, the network, and the oracle that sees everything.

use crate::Random;
use crate::faults::Plant;
use crate::net::{Letter, MS, Micros, Net};
use crate::oracle::Oracle;

/// See the module.
pub(crate) struct Context {
    pub(crate) now: Micros,
    pub(crate) random: Random,
    pub(crate) net: Net,
    pub(crate) oracle: Oracle,
    pub(crate) plant: Plant,
    pub(crate) trace: bool,
}

impl Context {
    pub(crate) fn send(&mut self, letter: Letter) {
        if self.trace {
            let text = format!("{:?} -> {:?} {:?}", letter.from, letter.to, letter.body);
            self.note(|| format!("  {text}"));
        }
        self.net.send(letter, self.now, &mut self.random);
    }
    /// A line of the trace.
    pub(crate) fn note(&self, text: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>8}.{:03} {}", self.now / MS, self.now % MS, text());
        }
    }
}
