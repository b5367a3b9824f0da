//! Processes are killed (`kill -9`) on real moves at every step: each ends filed, exactly once, with one fee.

mod damage;
mod kills;
mod moves;
mod repeats;
