//! Functions on a whole POP: real components, signed with a real key, deployed and called as a tenant would.

mod administration;
mod capabilities;
mod changes;
mod chat;
mod composition;
mod guests;
mod serving;
mod shadow;
mod site;
