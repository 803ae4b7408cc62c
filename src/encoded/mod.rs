//! L2: encoded REAPI messages read in place: what they name, without building them.
//!
//! A few bytes of a hostile message would become many in a generated type; here they become none.
//! Pure: borrowed from bytes that somebody else holds.

pub(crate) mod schema;
pub(crate) mod view;
pub(crate) mod wire;
