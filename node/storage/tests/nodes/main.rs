//! Storage nodes in this process, over loopback: what they promise, and what they do with disks that are full,
//! damaged or wrong.

mod bounds;
mod full;
mod promises;
mod scrub;
mod tmpfs;
mod world;
