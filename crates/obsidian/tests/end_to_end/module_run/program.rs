//! A program that uses what a command may be granted; compiled for wasm32-wasip2 by the test.

use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::time::{Duration, Instant, SystemTime};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments[0].as_str() {
        "echo" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).unwrap();
            print!("{text}");
            eprint!("{} bytes", text.len());
        }
        "environment" => {
            let mut variables: Vec<_> = std::env::vars().collect();
            variables.sort();
            println!("{variables:?} {:?}", &arguments[1..]);
        }
        "exit" => std::process::exit(arguments[1].parse().unwrap()),
        "panic" => panic!("as told"),
        "files" => files(),
        "write" => println!("{:?}", std::fs::write(&arguments[1], "x").map_err(|error| error.kind())),
        "connect" => match std::net::TcpStream::connect(&arguments[1]) {
            Ok(mut stream) => stream.write_all(b"hello").unwrap(),
            Err(error) => println!("denied: {error}"),
        },
        "clock" => {
            let (began, day) = (Instant::now(), SystemTime::now());
            std::thread::sleep(Duration::from_millis(30));
            assert!(began.elapsed() >= Duration::from_millis(30));
            assert!(day.duration_since(SystemTime::UNIX_EPOCH).unwrap() > Duration::from_secs(1_700_000_000));
        }
        "random" => println!("{}", RandomState::new().hash_one(0)),
        "spin" => {
            let mut sum = 0_u64;
            for number in 0..arguments[1].parse::<u64>().unwrap() {
                sum = spin_step(sum, number);
            }
            println!("{sum}");
        }
        other => panic!("unknown: {other}"),
    }
}

#[inline(never)]
fn spin_step(sum: u64, number: u64) -> u64 {
    (0..100).fold(sum, |sum, step| sum.rotate_left(7) ^ number.wrapping_mul(step))
}

fn files() {
    std::fs::create_dir("/data/folder").unwrap();
    std::fs::write("/data/folder/a", "text").unwrap();
    std::fs::rename("/data/folder/a", "/data/folder/b").unwrap();
    assert_eq!(std::fs::read_to_string("/data/folder/b").unwrap(), "text");
    assert_eq!(std::fs::metadata("/data/folder/b").unwrap().len(), 4);
    let mut names: Vec<_> = std::fs::read_dir("/data").unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    println!("{names:?}");
    for outside in ["/data/../secret", "/etc/passwd", "/data/link"] {
        assert!(std::fs::read(outside).is_err(), "{outside}");
    }
    std::fs::remove_file("/data/folder/b").unwrap();
    std::fs::remove_dir("/data/folder").unwrap();
}
