//! Storage nodes whose disks are full, damaged or wrong: in this process, over loopback.

mod bounds;
mod full;
mod scrub;
mod tmpfs;
mod world;
