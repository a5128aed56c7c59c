//! Many tenants at once, each with an instance of its own that answers.
//!
//! `OBSIDIAN_LIVE_FUNCTIONS` sets how many; 10,000 need a raised `vm.max_map_count`, which `obsidian doctor` checks.

use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use obsidian_sandbox::functions::{FunctionHostOptions, FunctionModule};
use obsidian_types::FunctionGrants;

use crate::fixture::{Node, answer, block_on};

#[test]
fn every_tenants_sandbox_lives_and_answers() {
    let tenants = std::env::var("OBSIDIAN_LIVE_FUNCTIONS").map_or(300, |text| text.parse().expect("a number"));
    // A request takes the waiting instance and another is made behind it: a few slots more than tenants.
    let options = FunctionHostOptions { threads: 2, cores: Vec::new(), instances: tenants + 64, running: 64 };
    let node = Node::new(&options);
    let artifact = obsidian_guests::functions_hello().expect("the embedded bytes are the pinned ones");
    let load = |number| node.load(&artifact, &format!("tenant-{number}"), FunctionGrants::default());
    let modules: Vec<FunctionModule> = (0..tenants).map(load).collect();
    block_on(async {
        for module in &modules {
            module.warm(1).await.expect("an instance");
        }
        assert_eq!(live(&modules), tenants, "all at once");
        let mut answers = modules.iter().map(|module| answer(module, "/")).collect::<FuturesUnordered<_>>();
        let mut answered = 0;
        while let Some((status, text)) = answers.next().await {
            assert_eq!((status.as_u16(), &*text), (200, "hello\n"));
            answered += 1;
        }
        assert_eq!(answered, tenants);
        // Its successor waits for the next request.
        tokio::time::sleep(Duration::from_millis(200)).await;
        println!("{tenants} sandboxes lived at once and answered; {} live now", live(&modules));
    });
}

fn live(modules: &[FunctionModule]) -> u32 {
    modules.iter().map(|module| module.statistics().live).sum()
}
