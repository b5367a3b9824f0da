//! How many files and connections a server may have open: systems give a process 1,024 unless it asks for more, and a
//! flood at all doors together takes more than that.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than all doors, blobs and the store hold together.
const WANTED: u64 = 16_384;
/// With fewer, a flood at one door keeps people out at the others.
const NEEDED: u64 = 4_096;

/// Asks the system for as many as a server needs, and says in the log if it gives fewer.
pub fn allow_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // None is without a limit.
    if current.is_none_or(|current| current >= WANTED) {
        return;
    }
    let allowed = maximum.unwrap_or(WANTED).min(WANTED);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum });
    if raised.is_err() || allowed < NEEDED {
        tracing::warn!(
            allowed = getrlimit(Resource::Nofile).current,
            needed = NEEDED,
            "the system allows few open files: raise the hard limit (LimitNOFILE, ulimit -Hn)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_limit_is_raised() {
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(512), ..before }).unwrap();
        allow_open_files();
        let most = before.maximum.unwrap_or(WANTED).min(WANTED);
        assert_eq!(getrlimit(Resource::Nofile).current, Some(most));
    }
}
