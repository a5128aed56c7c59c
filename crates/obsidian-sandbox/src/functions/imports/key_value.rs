//! `wasi:keyvalue`: stores of the tenant, by name, where they were granted.

use wasmtime::component::Resource;

use super::bindings::wasi::keyvalue::{atomics, batch, store};
use crate::functions::services::{KeyValueError, StoreName};
use crate::functions::state::FunctionState;

/// Keys of one batch.
const MAX_BATCH: usize = 1_000;

/// An open store.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Bucket(StoreName);

/// A comparison and swap in the making.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Swap {
    store: StoreName,
    key: String,
    seen: Option<Vec<u8>>,
}

type Answer<T> = wasmtime::Result<Result<T, store::Error>>;

fn told(error: KeyValueError) -> store::Error {
    store::Error::Other(error.to_string())
}

impl FunctionState {
    fn store_name(&self, bucket: &Resource<Bucket>) -> wasmtime::Result<StoreName> {
        Ok(self.table.get(bucket)?.0.clone())
    }
}

impl store::Host for FunctionState {
    async fn open(&mut self, identifier: String) -> Answer<Resource<Bucket>> {
        if !self.origin.grants.stores.contains(&identifier) {
            let shown: String = identifier.chars().take(64).collect();
            self.deny(&format!("store `{shown}`"));
            return Ok(Err(store::Error::AccessDenied));
        }
        let name = StoreName { tenant: self.origin.id.tenant.clone(), store: identifier };
        Ok(Ok(self.table.push(Bucket(name))?))
    }
}

impl store::HostBucket for FunctionState {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        let name = self.store_name(&bucket)?;
        Ok(self.origin.services.key_value.get(&name, &key).await.map_err(told))
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        let name = self.store_name(&bucket)?;
        Ok(self.origin.services.key_value.set(&name, &key, value).await.map_err(told))
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        let name = self.store_name(&bucket)?;
        Ok(self.origin.services.key_value.delete(&name, &key).await.map_err(told))
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        let name = self.store_name(&bucket)?;
        Ok(self.origin.services.key_value.exists(&name, &key).await.map_err(told))
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<String>) -> Answer<store::KeyResponse> {
        let name = self.store_name(&bucket)?;
        let page = self.origin.services.key_value.list(&name, cursor.as_deref()).await;
        Ok(page.map(|page| store::KeyResponse { keys: page.keys, cursor: page.next }).map_err(told))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for FunctionState {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: i64) -> Answer<i64> {
        let name = self.store_name(&bucket)?;
        Ok(self.origin.services.key_value.increment(&name, &key, delta).await.map_err(told))
    }

    async fn swap(&mut self, swap: Resource<Swap>, value: Vec<u8>) -> wasmtime::Result<Result<(), atomics::CasError>> {
        let Swap { store, key, seen } = self.table.delete(swap)?;
        let swapped = self.origin.services.key_value.compare_and_swap(&store, &key, seen, value).await;
        match swapped {
            Ok(Ok(())) => Ok(Ok(())),
            Ok(Err(present)) => {
                let again = self.table.push(Swap { store, key, seen: present })?;
                Ok(Err(atomics::CasError::CasFailed(again)))
            }
            Err(error) => Ok(Err(atomics::CasError::StoreError(told(error)))),
        }
    }
}

impl atomics::HostCas for FunctionState {
    async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Resource<Swap>> {
        let store = self.store_name(&bucket)?;
        match self.origin.services.key_value.get(&store, &key).await {
            Ok(seen) => Ok(Ok(self.table.push(Swap { store, key, seen })?)),
            Err(error) => Ok(Err(told(error))),
        }
    }

    async fn current(&mut self, swap: Resource<Swap>) -> Answer<Option<Vec<u8>>> {
        Ok(Ok(self.table.get(&swap)?.seen.clone()))
    }

    async fn drop(&mut self, swap: Resource<Swap>) -> wasmtime::Result<()> {
        self.table.delete(swap)?;
        Ok(())
    }
}

/// Refuses batches that are no batches.
fn fits(count: usize) -> Result<(), store::Error> {
    if count > MAX_BATCH {
        return Err(store::Error::Other(format!("a batch of {count} keys is more than {MAX_BATCH}")));
    }
    Ok(())
}

impl batch::Host for FunctionState {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Answer<Vec<Option<(String, Vec<u8>)>>> {
        if let Err(error) = fits(keys.len()) {
            return Ok(Err(error));
        }
        let name = self.store_name(&bucket)?;
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            match self.origin.services.key_value.get(&name, &key).await {
                Ok(value) => found.push(value.map(|value| (key, value))),
                Err(error) => return Ok(Err(told(error))),
            }
        }
        Ok(Ok(found))
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, values: Vec<(String, Vec<u8>)>) -> Answer<()> {
        if let Err(error) = fits(values.len()) {
            return Ok(Err(error));
        }
        let name = self.store_name(&bucket)?;
        for (key, value) in values {
            if let Err(error) = self.origin.services.key_value.set(&name, &key, value).await {
                return Ok(Err(told(error)));
            }
        }
        Ok(Ok(()))
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        if let Err(error) = fits(keys.len()) {
            return Ok(Err(error));
        }
        let name = self.store_name(&bucket)?;
        for key in keys {
            if let Err(error) = self.origin.services.key_value.delete(&name, &key).await {
                return Ok(Err(told(error)));
            }
        }
        Ok(Ok(()))
    }
}
