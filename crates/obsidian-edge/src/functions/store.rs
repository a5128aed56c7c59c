//! Key-value stores: one embedded database, a tenant's stores apart from all others' by key, every write durable.
//!
//! Writes go through one thread, which takes as many as wait and commits them together; reads see what is committed.
//! Neither runs on tokio's workers.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use obsidian_sandbox::functions::{KeyPage, KeyValue, KeyValueError, StoreName};
use obsidian_types::limits::{
    MAX_STORE_BATCH, MAX_STORE_KEY_BYTES, MAX_STORE_PAGE, MAX_STORE_QUEUE, MAX_STORE_VALUE_BYTES,
};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::{mpsc, oneshot};

/// Tenant, store, key.
type Place<'a> = (&'a str, &'a str, &'a str);
const VALUES: TableDefinition<Place<'static>, &[u8]> = TableDefinition::new("values");
/// Bytes of keys and values by tenant.
const HELD: TableDefinition<&str, u64> = TableDefinition::new("held");

/// The stores of all tenants.
pub(super) struct Stores {
    database: Arc<Database>,
    writes: mpsc::Sender<Write>,
}

/// One change, and who waits for it.
struct Write {
    store: StoreName,
    key: String,
    change: Change,
    done: oneshot::Sender<Outcome>,
}

enum Change {
    Set(Vec<u8>),
    Delete,
    Increment(i64),
    Swap { expected: Option<Vec<u8>>, value: Vec<u8> },
}

/// What a change found or made.
enum Done {
    Nothing,
    Sum(i64),
    /// The value is another one.
    Differs(Option<Vec<u8>>),
}

type Outcome = Result<Done, KeyValueError>;

fn failed(error: impl std::fmt::Display) -> KeyValueError {
    KeyValueError::Failed(error.to_string())
}

impl Stores {
    /// Opens the database in `path`, or makes it. A tenant may keep `quota` bytes.
    pub(super) fn open(path: &Path, quota: u64) -> Result<Self, String> {
        let database = Database::create(path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => {
                "another POP uses it: give each POP a data directory of its own".to_owned()
            }
            other => other.to_string(),
        })?;
        let begin = || -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            transaction.open_table(VALUES)?;
            transaction.open_table(HELD)?;
            Ok(transaction.commit()?)
        };
        begin().map_err(|error| error.to_string())?;
        let database = Arc::new(database);
        let (writes, waiting) = mpsc::channel(MAX_STORE_QUEUE);
        let writer = Writer { database: database.clone(), waiting, quota };
        std::thread::Builder::new()
            .name("obsidian-store".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| error.to_string())?;
        Ok(Self { database, writes })
    }

    async fn write(&self, store: &StoreName, key: &str, change: Change) -> Outcome {
        check(key)?;
        let (done, outcome) = oneshot::channel();
        let write = Write { store: store.clone(), key: key.to_owned(), change, done };
        let stopped = || failed("the store has stopped");
        self.writes.send(write).await.map_err(|_| stopped())?;
        outcome.await.map_err(|_| stopped())?
    }

    async fn read<T: Send + 'static>(
        &self,
        store: &StoreName,
        work: impl FnOnce(&redb::ReadOnlyTable<Place<'static>, &'static [u8]>, &StoreName) -> Result<T, redb::Error>
        + Send
        + 'static,
    ) -> Result<T, KeyValueError> {
        let (database, store) = (self.database.clone(), store.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let table = database.begin_read()?.open_table(VALUES)?;
            work(&table, &store)
        });
        reading.await.map_err(failed)?.map_err(failed)
    }
}

fn check(key: &str) -> Result<(), KeyValueError> {
    limit("key", key.len(), MAX_STORE_KEY_BYTES)
}

fn limit(what: &'static str, bytes: usize, limit: usize) -> Result<(), KeyValueError> {
    if bytes > limit { Err(KeyValueError::TooLarge { what, bytes, limit }) } else { Ok(()) }
}

#[async_trait]
impl KeyValue for Stores {
    async fn get(&self, store: &StoreName, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        check(key)?;
        let key = key.to_owned();
        self.read(store, move |table, store| {
            let found = table.get((store.tenant.as_str(), store.store.as_str(), key.as_str()))?;
            Ok(found.map(|value| value.value().to_vec()))
        })
        .await
    }

    async fn set(&self, store: &StoreName, key: &str, value: Vec<u8>) -> Result<(), KeyValueError> {
        limit("value", value.len(), MAX_STORE_VALUE_BYTES)?;
        self.write(store, key, Change::Set(value)).await.map(drop)
    }

    async fn delete(&self, store: &StoreName, key: &str) -> Result<(), KeyValueError> {
        self.write(store, key, Change::Delete).await.map(drop)
    }

    async fn exists(&self, store: &StoreName, key: &str) -> Result<bool, KeyValueError> {
        check(key)?;
        let key = key.to_owned();
        self.read(store, move |table, store| {
            Ok(table.get((store.tenant.as_str(), store.store.as_str(), key.as_str()))?.is_some())
        })
        .await
    }

    async fn list(&self, store: &StoreName, after: Option<&str>) -> Result<KeyPage, KeyValueError> {
        let after = after.map(str::to_owned);
        self.read(store, move |table, store| {
            let (tenant, name) = (store.tenant.as_str(), store.store.as_str());
            let mut page = KeyPage::default();
            let first = (tenant, name, after.as_deref().unwrap_or_default());
            for entry in table.range(first..)? {
                let (place, _) = entry?;
                let (its_tenant, its_store, key) = place.value();
                if (its_tenant, its_store) != (tenant, name) {
                    break;
                }
                if Some(key) == after.as_deref() {
                    continue;
                }
                if page.keys.len() == MAX_STORE_PAGE {
                    page.next = page.keys.last().cloned();
                    break;
                }
                page.keys.push(key.to_owned());
            }
            Ok(page)
        })
        .await
    }

    async fn increment(&self, store: &StoreName, key: &str, delta: i64) -> Result<i64, KeyValueError> {
        match self.write(store, key, Change::Increment(delta)).await? {
            Done::Sum(sum) => Ok(sum),
            Done::Nothing | Done::Differs(_) => Err(KeyValueError::NotANumber),
        }
    }

    async fn compare_and_swap(
        &self,
        store: &StoreName,
        key: &str,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
    ) -> Result<Result<(), Option<Vec<u8>>>, KeyValueError> {
        limit("value", value.len(), MAX_STORE_VALUE_BYTES)?;
        match self.write(store, key, Change::Swap { expected, value }).await? {
            Done::Differs(present) => Ok(Err(present)),
            Done::Nothing | Done::Sum(_) => Ok(Ok(())),
        }
    }
}

/// The thread that writes.
struct Writer {
    database: Arc<Database>,
    waiting: mpsc::Receiver<Write>,
    quota: u64,
}

impl Writer {
    /// Runs until the last handle is gone and everything is written.
    fn run(mut self) {
        while let Some(first) = self.waiting.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < MAX_STORE_BATCH
                && let Ok(next) = self.waiting.try_recv()
            {
                batch.push(next);
            }
            self.write(batch);
        }
    }

    /// Commits a batch, and tells everybody only then.
    fn write(&self, batch: Vec<Write>) {
        let written = self.commit(&batch);
        let outcomes: Vec<Outcome> = match written {
            Ok(outcomes) => outcomes,
            Err(error) => {
                tracing::error!(%error, "key-value stores cannot be written");
                batch.iter().map(|_| Err(failed(&error))).collect()
            }
        };
        for (write, outcome) in batch.into_iter().zip(outcomes) {
            // Whoever asked may be gone.
            let _ = write.done.send(outcome);
        }
    }

    fn commit(&self, batch: &[Write]) -> Result<Vec<Outcome>, redb::Error> {
        let transaction = self.database.begin_write()?;
        let mut outcomes = Vec::with_capacity(batch.len());
        {
            let mut values = transaction.open_table(VALUES)?;
            let mut held = transaction.open_table(HELD)?;
            for write in batch {
                outcomes.push(self.apply(write, &mut values, &mut held)?);
            }
        }
        transaction.commit()?;
        Ok(outcomes)
    }

    fn apply(
        &self,
        write: &Write,
        values: &mut redb::Table<'_, Place<'static>, &'static [u8]>,
        held: &mut redb::Table<'_, &'static str, u64>,
    ) -> Result<Outcome, redb::Error> {
        let tenant = write.store.tenant.as_str();
        let place = (tenant, write.store.store.as_str(), write.key.as_str());
        let present = values.get(place)?.map(|value| value.value().to_vec());
        let (next, done) = match next(&write.change, present.as_deref()) {
            Ok(Some(next)) => next,
            Ok(None) => return Ok(Ok(Done::Differs(present))),
            Err(error) => return Ok(Err(error)),
        };
        let size = |value: &[u8]| (write.key.len() + write.store.store.len() + value.len()) as u64;
        let before = held.get(tenant)?.map_or(0, |bytes| bytes.value());
        let without = before.saturating_sub(present.as_deref().map_or(0, size));
        let after = without + next.as_deref().map_or(0, size);
        // A tenant over its quota may still make things smaller.
        if after > self.quota && after > before {
            return Ok(Err(KeyValueError::Full { limit: self.quota }));
        }
        match &next {
            Some(value) => drop(values.insert(place, value.as_slice())?),
            None => drop(values.remove(place)?),
        }
        held.insert(tenant, after)?;
        Ok(Ok(done))
    }
}

/// What a change makes of the present value and tells; none if the present one is not the expected one.
#[expect(clippy::type_complexity, reason = "the value, none if removed, beside what is told")]
fn next(change: &Change, present: Option<&[u8]>) -> Result<Option<(Option<Vec<u8>>, Done)>, KeyValueError> {
    Ok(Some(match change {
        Change::Set(value) => (Some(value.clone()), Done::Nothing),
        Change::Delete => (None, Done::Nothing),
        Change::Increment(delta) => {
            let number = match present {
                None => 0,
                Some(bytes) => std::str::from_utf8(bytes)
                    .ok()
                    .and_then(|text| text.parse::<i64>().ok())
                    .ok_or(KeyValueError::NotANumber)?,
            };
            let sum = number.checked_add(*delta).ok_or(KeyValueError::NotANumber)?;
            (Some(sum.to_string().into_bytes()), Done::Sum(sum))
        }
        Change::Swap { expected, .. } if expected.as_deref() != present => return Ok(None),
        Change::Swap { value, .. } => (Some(value.clone()), Done::Nothing),
    }))
}

#[cfg(test)]
mod tests {
    use obsidian_sandbox::functions::{KeyValue as _, KeyValueError, StoreName};
    use obsidian_types::TenantId;
    use obsidian_types::limits::{MAX_STORE_KEY_BYTES, MAX_STORE_PAGE, MAX_STORE_VALUE_BYTES};

    use super::Stores;

    fn store(tenant: &str, store: &str) -> StoreName {
        StoreName { tenant: TenantId::new(tenant), store: store.to_owned() }
    }

    #[tokio::test]
    async fn values_outlive_the_process_and_never_cross_a_tenant() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        let (mine, other, yours) = (store("a", "cart"), store("a", "c"), store("b", "cart"));
        let stores = Stores::open(&path, 1 << 20).unwrap();
        assert!(Stores::open(&path, 1).err().unwrap().contains("another POP uses it"));
        stores.set(&mine, "k", b"v".to_vec()).await.unwrap();
        stores.set(&yours, "k", b"w".to_vec()).await.unwrap();
        drop(stores);
        // The writer gives the file back when it has written everything.
        let stores = loop {
            match Stores::open(&path, 1 << 20) {
                Ok(stores) => break stores,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        };
        assert_eq!(stores.get(&mine, "k").await.unwrap().unwrap(), b"v");
        assert_eq!(stores.get(&yours, "k").await.unwrap().unwrap(), b"w");
        assert_eq!(stores.get(&other, "artk").await.unwrap(), None);
        stores.delete(&mine, "k").await.unwrap();
        stores.delete(&mine, "k").await.unwrap();
        assert!(!stores.exists(&mine, "k").await.unwrap() && stores.exists(&yours, "k").await.unwrap());
    }

    #[tokio::test]
    async fn numbers_add_up_under_contention_and_swaps_see_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let stores = std::sync::Arc::new(Stores::open(&folder.path().join("s"), 1 << 20).unwrap());
        let place = store("a", "n");
        let adding = (0..100).map(|_| {
            let (stores, place) = (stores.clone(), place.clone());
            async move { stores.increment(&place, "hits", 2).await.unwrap() }
        });
        let mut sums = futures::future::join_all(adding).await;
        sums.sort_unstable();
        assert_eq!(sums, (1..=100).map(|count| count * 2).collect::<Vec<i64>>());
        assert_eq!(stores.increment(&place, "hits", -200).await.unwrap(), 0);
        stores.set(&place, "text", b"abc".to_vec()).await.unwrap();
        assert_eq!(stores.increment(&place, "text", 1).await, Err(KeyValueError::NotANumber));
        stores.set(&place, "top", i64::MAX.to_string().into_bytes()).await.unwrap();
        assert_eq!(stores.increment(&place, "top", 1).await, Err(KeyValueError::NotANumber));
        let swap = |expected: Option<&[u8]>, value: &[u8]| {
            let (expected, value) = (expected.map(<[u8]>::to_vec), value.to_vec());
            let (stores, place) = (stores.clone(), place.clone());
            async move { stores.compare_and_swap(&place, "lock", expected, value).await.unwrap() }
        };
        assert_eq!(swap(None, b"1").await, Ok(()));
        assert_eq!(swap(None, b"2").await, Err(Some(b"1".to_vec())));
        assert_eq!(swap(Some(b"1"), b"2").await, Ok(()));
    }

    #[tokio::test]
    async fn keys_are_listed_in_pages() {
        let folder = tempfile::tempdir().unwrap();
        let stores = Stores::open(&folder.path().join("s"), 1 << 20).unwrap();
        let place = store("a", "many");
        let count = MAX_STORE_PAGE + 3;
        let names: Vec<String> = (0..count).map(|number| format!("{number:05}")).collect();
        let setting = names.iter().map(|name| stores.set(&place, name, vec![1]));
        futures::future::join_all(setting).await.into_iter().for_each(Result::unwrap);
        stores.set(&store("a", "many2"), "other", vec![1]).await.unwrap();
        let first = stores.list(&place, None).await.unwrap();
        assert_eq!(first.keys.len(), MAX_STORE_PAGE);
        let second = stores.list(&place, first.next.as_deref()).await.unwrap();
        assert_eq!((second.keys.len(), second.next), (3, None));
        assert_eq!([first.keys, second.keys].concat(), names);
    }

    #[tokio::test]
    async fn a_tenant_has_its_quota_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let stores = Stores::open(&folder.path().join("s"), 100).unwrap();
        let place = store("a", "s");
        stores.set(&place, "k", vec![0; 90]).await.unwrap();
        let full = Err(KeyValueError::Full { limit: 100 });
        assert_eq!(stores.set(&place, "l", vec![0; 9]).await, full);
        assert_eq!(stores.set(&place, "k", vec![0; 99]).await, full);
        stores.set(&store("b", "s"), "l", vec![0; 90]).await.unwrap();
        stores.set(&place, "k", vec![0; 9]).await.unwrap();
        stores.set(&place, "l", vec![0; 80]).await.unwrap();
        stores.delete(&place, "l").await.unwrap();
        stores.set(&place, "m", vec![0; 80]).await.unwrap();
        let long = "k".repeat(MAX_STORE_KEY_BYTES + 1);
        assert!(matches!(stores.get(&place, &long).await, Err(KeyValueError::TooLarge { what: "key", .. })));
        let large = vec![0; MAX_STORE_VALUE_BYTES + 1];
        assert!(matches!(stores.set(&place, "k", large).await, Err(KeyValueError::TooLarge { what: "value", .. })));
    }
}
