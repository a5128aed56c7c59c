//! The host interfaces: environment, configuration, stores, logs, metrics, clocks, random numbers.

use http::StatusCode;
use obsidian_sandbox::functions::LogLevel;
use obsidian_types::FunctionGrants;

use crate::fixture::{answer, block_on, conformance, node};

fn with_stores(stores: &[&str]) -> FunctionGrants {
    FunctionGrants { stores: stores.iter().map(|store| (*store).to_owned()).collect(), ..FunctionGrants::default() }
}

#[test]
fn environment_and_configuration_are_what_was_granted() {
    let environment = [("GREETING", "hei"), ("PLACE", "Oslo")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let grants = FunctionGrants { environment: environment.into(), ..FunctionGrants::default() };
    let module = conformance("granted", grants);
    block_on(async {
        assert_eq!(answer(&module, "/environment").await.1, "GREETING=hei\nPLACE=Oslo\narguments 0\n");
        assert_eq!(answer(&module, "/config").await.1, "GREETING=hei\nPLACE=Oslo\n");
        assert_eq!(answer(&module, "/config/PLACE").await.1, "Some(\"Oslo\")\n");
        assert_eq!(answer(&module, "/config/OTHER").await.1, "None\n");
    });
}

#[test]
fn a_store_keeps_what_it_is_given() {
    let module = conformance("stores", with_stores(&["first", "second"]));
    block_on(async {
        let steps = [
            ("first/get?key=a", "none"),
            ("first/exists?key=a", "false"),
            ("first/set?key=a&value=one", "set"),
            ("first/get?key=a", "some one"),
            ("first/exists?key=a", "true"),
            ("second/get?key=a", "none"),
            ("first/delete?key=a", "deleted"),
            ("first/delete?key=a", "deleted"),
            ("first/get?key=a", "none"),
            ("first/increment?key=n&value=5", "5"),
            ("first/increment?key=n&value=-7", "-2"),
            ("first/swap?key=s&value=new", "saw none, swapped"),
            ("first/swap?key=s&value=newer", "saw some new, swapped"),
            ("first/swap-late?key=s&value=newest", "saw some newer, failed, saw some meanwhile, swapped"),
            ("first/get?key=s", "some newest"),
            ("second/many", "m1=M1 m2=M2 m3=M3 none | none none m3=M3 none"),
            ("second/list", "1 keys in 1 pages from m3 to m3"),
        ];
        for (path, expected) in steps {
            let got = answer(&module, &format!("/store/{path}")).await;
            assert_eq!(got, (StatusCode::OK, format!("{expected}\n")), "{path}");
        }
    });
}

#[test]
fn what_a_store_refuses_is_said() {
    let module = conformance("refused-by-store", with_stores(&["first"]));
    block_on(async {
        answer(&module, "/store/first/set?key=word&value=text").await;
        for (path, words) in [
            ("increment?key=word&value=1", "no 64-bit integer"),
            ("increment?key=most&value=9223372036854775807", "9223372036854775807"),
            ("increment?key=most&value=1", "the sum is none"),
            ("set-sized?key=1025&value=1", "the key has 1025 bytes, more than 1024"),
            ("set-sized?key=1&value=4194305", "the value has 4194305 bytes, more than 4194304"),
        ] {
            let (_, text) = answer(&module, &format!("/store/first/{path}")).await;
            assert!(text.contains(words), "{path}: {text}");
        }
    });
}

#[test]
fn tenants_do_not_see_each_others_stores() {
    let (mine, yours) = (conformance("mine", with_stores(&["shared"])), conformance("yours", with_stores(&["shared"])));
    block_on(async {
        answer(&mine, "/store/shared/set?key=a&value=mine").await;
        assert_eq!(answer(&yours, "/store/shared/get?key=a").await.1, "none\n");
        assert_eq!(answer(&yours, "/store/shared/list").await.1, "0 keys in 1 pages from  to \n");
        assert_eq!(answer(&mine, "/store/shared/get?key=a").await.1, "some mine\n");
    });
}

#[test]
fn lines_reach_the_functions_own_log() {
    let module = conformance("logs", FunctionGrants::default());
    block_on(async {
        for level in ["trace", "debug", "info", "warn", "error", "critical"] {
            answer(&module, &format!("/log?level={level}&context=here&text=at-{level}")).await;
        }
        answer(&module, "/print/stdout").await;
        answer(&module, "/print/stderr").await;
        node().logged("logs", "at-critical").await;
        let warned = node().logged("logs", "at-warn").await;
        assert_eq!((warned.level, &*warned.context, &*warned.text), (LogLevel::Warn, "here", "at-warn"));
        assert_eq!(warned.function, *module.id());
        let printed = |context: &str| -> Vec<(LogLevel, String)> {
            let lines = node().log("logs").into_iter().filter(|line| line.context == context);
            lines.map(|line| (line.level, line.text)).collect()
        };
        let lines = |level| ["first line", "second line", "unfinished"].map(|line| (level, line.to_owned()));
        crate::fixture::eventually("the last lines", || printed("stdout").len() == 3 && printed("stderr").len() == 3)
            .await;
        assert_eq!(printed("stdout"), lines(LogLevel::Info));
        assert_eq!(printed("stderr"), lines(LogLevel::Error));
    });
}

#[test]
fn metrics_are_taken() {
    let module = conformance("metrics", FunctionGrants::default());
    assert_eq!(block_on(answer(&module, "/metrics")).1, "recorded\n");
}

#[test]
fn clocks_run_and_sleeping_sleeps() {
    let module = conformance("clocks", FunctionGrants::default());
    let text = block_on(answer(&module, "/clocks")).1;
    let number = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the line");
        line.trim().parse().expect("a number")
    };
    assert!(number("slept") >= 20_000_000, "{text}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(number("time").abs_diff(now) < 60, "{text}");
}

#[test]
fn random_numbers_differ_from_instance_to_instance() {
    let module = conformance("random", FunctionGrants::default());
    block_on(async {
        let (first, second) = (answer(&module, "/random").await.1, answer(&module, "/random").await.1);
        assert_eq!(first.lines().count(), 5, "{first}");
        for (one, other) in first.lines().zip(second.lines()) {
            assert_ne!(one, other, "the same twice");
        }
    });
}
