//! Nothing but `Masked<Prompt>` goes to an upstream, and a client's own text cannot be a model's name.

use obsidian_shield::{Masked, Prompt, TokenIds};
use obsidian_wire::core::{CoreLink, CoreModel, CoreRequest};

async fn send(link: CoreLink, request: CoreRequest, unmasked: Prompt, ids: Masked<TokenIds>) {
    let _ = link.open("alice@example.com", &request).await;
    let _ = link.open(&unmasked, &request).await;
    let _ = link.open(&ids, &request).await;
    let _ = link.open(&Masked(unmasked), &request).await;
    let _ = CoreModel(Some("alice@example.com".into()));
}

fn main() {}
