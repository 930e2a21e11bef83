//! Whole clusters of real processes: the built binary, started by its playground, used through MySQL.

mod cache;
mod consistency;
mod cuts;
mod disk;
mod harness;
mod load;
mod multi_master;
mod playground;
mod protocol;
mod readmission;
mod single_master;
mod storage;
mod sysbench;
