//! From files to records and charges, purely: FHIR R4 resources one at a time out of files of any size, the facts
//! that file them (kind, patient, encounter, date), the department they belong to, and the tests and prices that
//! a fee is made of.
//!
//! Nothing here knows a store, a socket, a runtime or a clock. No error, log line or `Debug` carries what a record
//! says about a person.

pub mod attachment;
pub mod charges;
pub mod department;
pub mod exact;
pub mod fault;
pub mod outline;
pub mod person;
pub mod reference;
pub mod resource;
pub mod resource_type;
mod retraction;
mod scan;
pub mod source;
mod table;

pub use exact::ExactAmount;
pub use fault::{Fault, FileFaults};
pub use outline::Outline;
pub use reference::Reference;
pub use resource::{Coding, Facts, minified_hash};
pub use resource_type::ResourceType;
pub use retraction::is_retracted;
