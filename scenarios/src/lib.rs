//! Stories as data files, the patients they are played with, and the runner that plays them on real processes.

pub mod generator;
