//! Implementations that a program adds to psbench's own, by name.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// What a program has added of one kind. One value for each kind and process.
#[derive(Debug)]
pub struct Registry<F: ?Sized>(RwLock<BTreeMap<&'static str, Arc<F>>>);

impl<F: ?Sized> Registry<F> {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self(RwLock::new(BTreeMap::new()))
    }

    /// Adds one, in place of what had this name before.
    pub fn add(&self, name: &'static str, factory: Arc<F>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name, factory);
    }

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<Arc<F>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All names, in alphabetical order.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }
}

impl<F: ?Sized> Default for Registry<F> {
    fn default() -> Self {
        Self::new()
    }
}
