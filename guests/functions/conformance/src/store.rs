//! Key-value stores: `/store/NAME/OPERATION?key=…&value=…`, one operation a request.

use crate::answer;
use crate::wasi::keyvalue::atomics::{self, Cas, CasError};
use crate::wasi::keyvalue::batch;
use crate::wasi::keyvalue::store::{self, Bucket, Error};
use crate::{Call, Outcome};

pub(crate) fn operate(call: Call) -> Outcome {
    let (name, operation) = call.rest().split_once('/').unwrap_or((call.rest(), "get"));
    let result = store::open(name).and_then(|bucket| apply(&call, &bucket, operation));
    let (status, text) = match result {
        Ok(text) => (200, text),
        Err(Error::NoSuchStore) => (404, "no such store".to_owned()),
        Err(Error::AccessDenied) => (403, "access denied".to_owned()),
        Err(Error::Other(reason)) => (500, reason),
    };
    answer::text(call.out, status, &(text + "\n"))
}

fn apply(call: &Call, bucket: &Bucket, operation: &str) -> Result<String, Error> {
    let (key, value) = (call.parameter("key").unwrap_or("key"), call.parameter("value").unwrap_or_default());
    match operation {
        "get" => Ok(shown(bucket.get(key)?)),
        "set" => bucket.set(key, value.as_bytes()).map(|()| "set".to_owned()),
        // A value of `value` bytes and a key of `key` bytes, for the limits.
        "set-sized" => {
            let length = |text: &str| text.parse::<usize>().unwrap_or_default();
            bucket.set(&"k".repeat(length(key)), &vec![b'v'; length(value)]).map(|()| "set".to_owned())
        }
        "delete" => bucket.delete(key).map(|()| "deleted".to_owned()),
        "exists" => Ok(bucket.exists(key)?.to_string()),
        "list" => list(bucket),
        "increment" => {
            let delta = value.parse().map_err(|_| Error::Other("no number".to_owned()))?;
            Ok(atomics::increment(bucket, key, delta)?.to_string())
        }
        "swap" => swap(bucket, key, value, false),
        "swap-late" => swap(bucket, key, value, true),
        "many" => many(bucket),
        other => Err(Error::Other(format!("no such operation: {other}"))),
    }
}

fn shown(value: Option<Vec<u8>>) -> String {
    value.map_or_else(|| "none".to_owned(), |bytes| format!("some {}", String::from_utf8_lossy(&bytes)))
}

/// How many keys there are, in how many pages, the first and the last.
fn list(bucket: &Bucket) -> Result<String, Error> {
    let (mut keys, mut pages, mut cursor) = (Vec::new(), 0, None);
    loop {
        let page = bucket.list_keys(cursor.as_deref())?;
        keys.extend(page.keys);
        pages += 1;
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    let (first, last) = (keys.first().map_or("", String::as_str), keys.last().map_or("", String::as_str));
    Ok(format!("{} keys in {pages} pages from {first} to {last}", keys.len()))
}

/// Swaps the value. `late` lets somebody else write in between, so that the first attempt must fail and the handle
/// that comes back succeed.
fn swap(bucket: &Bucket, key: &str, value: &str, late: bool) -> Result<String, Error> {
    let cas = Cas::new(bucket, key)?;
    let mut story = format!("saw {}", shown(cas.current()?));
    if late {
        bucket.set(key, b"meanwhile")?;
    }
    match atomics::swap(cas, value.as_bytes()) {
        Ok(()) => story.push_str(", swapped"),
        Err(CasError::StoreError(error)) => return Err(error),
        Err(CasError::CasFailed(again)) => {
            story.push_str(&format!(", failed, saw {}", shown(again.current()?)));
            match atomics::swap(again, value.as_bytes()) {
                Ok(()) => story.push_str(", swapped"),
                Err(CasError::StoreError(error)) => return Err(error),
                Err(CasError::CasFailed(_)) => story.push_str(", failed again"),
            }
        }
    }
    Ok(story)
}

/// Sets three keys, reads four, deletes two, reads again.
fn many(bucket: &Bucket) -> Result<String, Error> {
    let keys = ["m1", "m2", "m3", "m4"].map(str::to_owned);
    let pairs: Vec<(String, Vec<u8>)> = keys[..3].iter().map(|key| (key.clone(), key.to_uppercase().into())).collect();
    batch::set_many(bucket, &pairs)?;
    let before = batch::get_many(bucket, &keys)?;
    batch::delete_many(bucket, &keys[..2])?;
    let after = batch::get_many(bucket, &keys)?;
    let spelled = |values: Vec<Option<(String, Vec<u8>)>>| {
        let spell = |entry: Option<(String, Vec<u8>)>| match entry {
            Some((key, value)) => format!("{key}={}", String::from_utf8_lossy(&value)),
            None => "none".to_owned(),
        };
        values.into_iter().map(spell).collect::<Vec<_>>().join(" ")
    };
    Ok(format!("{} | {}", spelled(before), spelled(after)))
}
