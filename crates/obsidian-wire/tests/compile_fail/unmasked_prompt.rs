//! Nothing but `Masked<TokenIds>` goes into a stream, and nobody outside the shield can make one.

use obsidian_shield::{Masked, Prompt, TokenIds};
use obsidian_wire::{HubLink, OpenOptions};

async fn send(link: HubLink, options: OpenOptions, ids: Vec<u32>, unmasked: Prompt, masked: Masked<Prompt>) {
    let _ = link.open("alice@example.com", options.clone()).await;
    let _ = link.open(&ids, options.clone()).await;
    let _ = link.open(&unmasked, options.clone()).await;
    let _ = link.open(&masked, options.clone()).await;
    let _ = link.open(&TokenIds::default(), options.clone()).await;
    let _ = link.open(&Masked(TokenIds::default()), options).await;
}

fn main() {}
