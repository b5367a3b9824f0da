//! What the tests across packages share. Nothing here is shipped.
//!
//! [`fixture`] is a whole federation in memory, honest and the same every time; [`golden`] compares formats with the
//! bytes that were agreed on; [`table`] holds dishonest things against the codes that refuse them;
//! [`moves`] plays patients' moves on real processes, [`people`] what patients and desks do in them, [`ends`] is how they end;
//! [`watch`] is what has to hold at every moment of them; [`rogue`] is a hospital on the real network that keeps no promise; [`index_data`] is all that an index has;
//! [`said`] is what can be read in it; [`dice`] are numbers from a seed.

pub mod dice;
pub mod ends;
pub mod fixture;
pub mod golden;
pub mod index_data;
pub mod moves;
pub mod people;
pub mod rogue;
pub mod said;
pub mod table;
pub mod watch;
