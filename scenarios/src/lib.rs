//! Stories as data files, the patients they are played with, and the runner that plays them on real processes.
//!
//! Builds the three programs, starts them as operating system processes in a [`world`], and plays a [`story`] on it.
//! What it knows of them is what their users know: command lines, exit codes and JSON.

pub mod generator;
pub mod json;
pub mod process;
pub mod programs;
pub mod signals;
pub mod story;
pub mod world;
