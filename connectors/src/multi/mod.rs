//! Several connectors, each for the objects that its policy takes, as ProxyStore's `MultiConnector` has them: small objects in shared
//! memory and large ones in files, say.
//!
//! What host stores and what the objects ask for are known when the connector is opened, and then the part is a function of an
//! object's size alone. A proxy carries the part's own way to the object ([`Connector::address_for`]), so whoever resolves it needs
//! none of this. All parts name their objects from the one [`KeySource`], so that whoever cleans up can name them all.

mod policy;

use std::cmp::Reverse;
use std::fmt::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::policy::{BadPattern, HostPattern, Part, Policy};
use crate::address::{Location, Shown};
use crate::descriptor::Descriptor;
use crate::{Address, Connector, ConnectorError, ConnectorSpec, Key, KeySource};

pub(crate) const DESCRIPTOR: Descriptor =
    Descriptor::of::<MultiLocation>(NAME, "Several of these, by the objects' sizes");

const NAME: &str = "multi";

/// The parts in which an object may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MultiLocation {
    /// Those that are used, by falling priority, and without what was decided when they were chosen.
    pub parts: Vec<(Address, Policy)>,
}

impl MultiLocation {
    /// The parts, unless one has parts itself: bytes from elsewhere may claim parts within parts, as deep as would exhaust the stack.
    fn flat(&self) -> &[(Address, Policy)] {
        if self.parts.iter().any(|(part, _)| part.name() == NAME) { &[] } else { &self.parts }
    }
}

impl fmt::Display for MultiLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.flat().iter().map(|(part, policy)| format!("{part}{policy}")).collect();
        write!(f, "({})", parts.join("; "))
    }
}

impl Location for MultiLocation {
    fn connector(&self) -> &str {
        NAME
    }

    fn connect(&self) -> Result<Arc<dyn Connector>, ConnectorError> {
        if self.flat().len() < self.parts.len() {
            let reason = "a part of it can't be one itself".into();
            return Err(ConnectorError::Unreachable { connector: NAME.into(), reason });
        }
        Ok(Arc::new(MultiConnector::connect(&self.parts)?))
    }

    fn outlives_process(&self) -> bool {
        self.flat().iter().any(|(part, _)| part.outlives_process())
    }

    fn shown(&self) -> Vec<Shown> {
        self.flat().iter().flat_map(|(part, _)| part.shown()).collect()
    }

    fn doubt(&self) {
        self.flat().iter().for_each(|(part, _)| part.doubt());
    }
}

/// Stores each object in one of several connectors.
#[derive(Debug)]
pub struct MultiConnector {
    address: Address,
    parts: Vec<OpenPart>,
}

#[derive(Debug)]
struct OpenPart {
    policy: Policy,
    connector: Arc<dyn Connector>,
}

impl MultiConnector {
    /// Opens those of `parts` that are for this host and have all `tags`; parts that differ in their policies alone are one connector.
    ///
    /// # Errors
    ///
    /// [`ConnectorError`] where one of them can't be opened, or there is none.
    pub fn open(parts: &[Part], tags: &[String], keys: &KeySource) -> Result<Self, ConnectorError> {
        let host = host();
        let mut chosen: Vec<&Part> = usable(parts, tags, &host).collect();
        if chosen.is_empty() {
            return Err(ConnectorError::Unreachable {
                connector: NAME.into(),
                reason: format!(
                    "no part is for host {host} and has the tags [{}]; there are: {}",
                    tags.join(", "),
                    listed(parts.iter().map(|part| (part.spec.name().to_owned(), &part.policy)))
                ),
            });
        }
        chosen.sort_by_key(|part| Reverse(part.policy.priority));
        let mut opened: Vec<(&Part, Arc<dyn Connector>)> = Vec::new();
        for part in chosen {
            // Gateways have one path of a name, and it is named by the keys.
            let connector = match opened.iter().find(|(other, _)| other.spec == part.spec) {
                Some((_, same)) => Arc::clone(same),
                None => part.spec.open(keys.clone())?,
            };
            opened.push((part, connector));
        }
        let of_policy = |(part, connector): (&Part, _)| {
            let policy = Policy { host: None, tags: Vec::new(), ..part.policy.clone() };
            OpenPart { policy, connector }
        };
        Self::of(opened.into_iter().map(of_policy).collect())
    }

    /// Reaches the parts of a connector that another process opened: `parts` are those of its [`address`](Connector::address).
    ///
    /// # Errors
    ///
    /// [`ConnectorError`] where one of them can't be reached.
    pub fn connect(parts: &[(Address, Policy)]) -> Result<Self, ConnectorError> {
        let connected =
            parts.iter().map(|(part, policy)| Ok(OpenPart { policy: policy.clone(), connector: part.connect()? }));
        Self::of(connected.collect::<Result<_, ConnectorError>>()?)
    }

    fn of(parts: Vec<OpenPart>) -> Result<Self, ConnectorError> {
        let location = parts.iter().map(|part| (part.connector.address(), part.policy.clone())).collect();
        Ok(Self { address: Address::of(&MultiLocation { parts: location })?, parts })
    }

    /// The connectors of all parts, each once.
    fn connectors(&self) -> impl Iterator<Item = &Arc<dyn Connector>> {
        let is_first = |place: &usize| {
            !self.parts[..*place].iter().any(|part| Arc::ptr_eq(&part.connector, &self.parts[*place].connector))
        };
        (0..self.parts.len()).filter(is_first).map(|place| &self.parts[place].connector)
    }

    /// The part that takes objects of `size` bytes, by its place.
    fn place(&self, size: u64) -> Result<usize, ConnectorError> {
        self.parts.iter().position(|part| part.policy.takes_size(size)).ok_or_else(|| ConnectorError::Unreachable {
            connector: NAME.into(),
            reason: format!(
                "no part takes an object of {size} bytes; widen one of: {}",
                listed(self.parts.iter().map(|part| (part.connector.address().name().to_owned(), &part.policy)))
            ),
        })
    }

    /// The parts in which the object may be: all where its size is not known.
    fn candidates(&self, key: &Key) -> &[OpenPart] {
        match key.size.map(|size| self.place(size)) {
            Some(Ok(place)) => &self.parts[place..=place],
            Some(Err(_)) => &[],
            None => &self.parts,
        }
    }

    /// What the first part answers that has the object.
    fn first<T>(
        &self,
        key: &Key,
        ask: impl Fn(&dyn Connector) -> Result<Option<T>, ConnectorError>,
    ) -> Result<Option<T>, ConnectorError> {
        for part in self.candidates(key) {
            if let Some(answer) = ask(&*part.connector)? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }
}

/// The parts of those that are for this host and have all `tags` whose objects stay when this process ends; `None`: there are none.
pub(crate) fn outliving(parts: &[Part], tags: &[String]) -> Option<ConnectorSpec> {
    let outliving = |part: &Part| Some(Part { spec: part.spec.outliving()?, ..part.clone() });
    let parts: Vec<_> = usable(parts, tags, &host()).filter_map(outliving).collect();
    (!parts.is_empty()).then(|| ConnectorSpec::Multi { parts, tags: tags.to_vec() })
}

fn usable<'a>(parts: &'a [Part], tags: &'a [String], host: &'a str) -> impl Iterator<Item = &'a Part> {
    parts.iter().filter(move |part| part.policy.is_for_host(host) && part.policy.has_tags(tags))
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Connectors and their policies, as the command line takes them.
fn listed<'a>(parts: impl Iterator<Item = (String, &'a Policy)>) -> String {
    parts.fold(String::new(), |mut text, (name, policy)| {
        let separator = if text.is_empty() { "" } else { " " };
        // Writing to a string can't fail.
        let _ = write!(text, "{separator}{name}{policy}");
        text
    })
}

impl Connector for MultiConnector {
    fn put(&self, object: Bytes) -> Result<Key, ConnectorError> {
        let place = self.place(object.len() as u64)?;
        self.parts[place].connector.put(object)
    }

    fn put_batch(&self, objects: Vec<Bytes>) -> Result<Vec<Key>, ConnectorError> {
        let places =
            objects.iter().map(|object| self.place(object.len() as u64)).collect::<Result<Vec<_>, ConnectorError>>()?;
        let mut batches = vec![Vec::new(); self.parts.len()];
        for (place, object) in places.iter().zip(objects) {
            batches[*place].push(object);
        }
        let mut keys = Vec::with_capacity(batches.len());
        for (part, batch) in self.parts.iter().zip(batches) {
            keys.push(part.connector.put_batch(batch)?.into_iter());
        }
        // Back in the order of the objects.
        Ok(places.into_iter().filter_map(|place| keys[place].next()).collect())
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.first(key, |part| part.get(key))
    }

    fn exists(&self, key: &Key) -> Result<bool, ConnectorError> {
        Ok(self.first(key, |part| Ok(part.exists(key)?.then_some(())))?.is_some())
    }

    fn evict(&self, key: &Key) -> Result<bool, ConnectorError> {
        Ok(self.first(key, |part| Ok(part.evict(key)?.then_some(())))?.is_some())
    }

    fn evict_batch(&self, keys: &[Key]) -> Result<u64, ConnectorError> {
        let mut batches = vec![Vec::new(); self.parts.len()];
        for key in keys {
            match key.size.map(|size| self.place(size)) {
                Some(Ok(place)) => batches[place].push(*key),
                Some(Err(_)) => {}
                None => batches.iter_mut().for_each(|batch| batch.push(*key)),
            }
        }
        self.parts.iter().zip(batches).try_fold(0, |sum, (part, batch)| Ok(sum + part.connector.evict_batch(&batch)?))
    }

    fn take(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.first(key, |part| part.take(key))
    }

    fn held(&self) -> Option<u64> {
        self.connectors().filter_map(|connector| connector.held()).reduce(|sum, held| sum + held)
    }

    fn stop_waiting(&self) {
        self.connectors().for_each(|connector| connector.stop_waiting());
    }

    fn address(&self) -> Address {
        self.address.clone()
    }

    fn address_for(&self, key: &Key) -> Address {
        match self.candidates(key) {
            [only] => only.connector.address_for(key),
            _ => self.address(),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::memory::MemoryLocation;
    use crate::peer::PeerAddress;
    use crate::{Lifetime, Proxy, Resolver, Store, StoreOptions};

    fn memory(policy: Policy) -> Part {
        Part { spec: ConnectorSpec::Memory { space: Uuid::new_v4(), limit: 1 << 20 }, policy }
    }

    fn sized(min_size: u64, max_size: Option<u64>, priority: i64) -> Policy {
        Policy { min_size, max_size, priority, ..Policy::default() }
    }

    fn open(parts: &[Part]) -> MultiConnector {
        MultiConnector::open(parts, &[], &KeySource::random()).unwrap()
    }

    /// Which of `parts` objects of `size` go to.
    fn chosen(parts: &[Part], size: usize) -> usize {
        let multi = open(parts);
        let key = multi.put(vec![0; size].into()).unwrap();
        let address = multi.address_for(&key);
        parts.iter().position(|part| address_of(part) == address).unwrap()
    }

    fn address_of(part: &Part) -> Address {
        let ConnectorSpec::Memory { space, .. } = part.spec else { panic!("{part:?}") };
        Address::of(&MemoryLocation { space }).unwrap()
    }

    fn parts_of(multi: &MultiConnector) -> Vec<Address> {
        let location: MultiLocation = multi.address().location_of(NAME).unwrap();
        location.parts.into_iter().map(|(address, _)| address).collect()
    }

    #[test]
    fn of_those_that_take_the_size_the_highest_priority_wins_then_the_first() {
        let parts = [memory(sized(0, Some(10), 0)), memory(sized(10, None, 0)), memory(sized(0, None, -1))];
        assert_eq!([5, 10, 11].map(|size| chosen(&parts, size)), [0, 0, 1]);
        let parts = [memory(sized(0, None, 1)), memory(sized(5, None, 2))];
        assert_eq!([4, 5].map(|size| chosen(&parts, size)), [0, 1]);
    }

    #[test]
    fn what_no_part_takes_is_an_error_with_the_policies_and_stores_nothing() {
        let multi = open(&[memory(sized(0, Some(10), 0)), memory(sized(20, None, 3))]);
        let batch = [5, 15].map(|size| Bytes::from(vec![0; size])).to_vec();
        let error = multi.put_batch(batch).unwrap_err().to_string();
        assert!(error.contains("15 bytes") && error.contains("memory,min=20,priority=3 memory,max=10"), "{error}");
        assert_eq!(parts_of(&multi).len(), 2);
        assert_eq!(multi.get(&KeySource::random().next(15)).unwrap(), None);
    }

    #[test]
    fn parts_for_other_hosts_or_without_the_tags_are_not_opened() {
        let nowhere = Policy { host: Some("no-such-host".parse().unwrap()), ..Policy::default() };
        let tagged = Policy { tags: vec!["fast".into()], ..Policy::default() };
        let parts = [memory(nowhere), memory(Policy::default()), memory(tagged)];
        let opened =
            |tags: &[String]| MultiConnector::open(&parts, tags, &KeySource::random()).map(|multi| parts_of(&multi));
        let fast = ["fast".to_owned()];
        assert_eq!(opened(&fast).unwrap(), [address_of(&parts[2])]);
        assert_eq!(opened(&[]).unwrap(), [address_of(&parts[1]), address_of(&parts[2])]);
        let error: ConnectorError = opened(&["large".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("[large]; there are: memory,host=no-such-host memory"), "{error}");
    }

    #[test]
    fn what_outlives_this_process_is_in_the_parts_that_were_opened_and_last() {
        let file = |dir: &str, policy| Part { spec: ConnectorSpec::File { dir: dir.into() }, policy };
        let nowhere = Policy { host: Some("no-such-host".parse().unwrap()), ..Policy::default() };
        let tagged = Policy { tags: vec!["fast".into()], ..Policy::default() };
        let parts = [file("/a", nowhere), memory(tagged.clone()), file("/b", Policy::default()), file("/c", tagged)];
        let outliving = |parts: &[Part], tags: &[String]| {
            ConnectorSpec::Multi { parts: parts.to_vec(), tags: tags.to_vec() }.outliving()
        };
        let of =
            |parts: &[Part], tags: &[String]| Some(ConnectorSpec::Multi { parts: parts.to_vec(), tags: tags.to_vec() });
        let fast = ["fast".to_owned()];
        assert_eq!(outliving(&parts, &[]), of(&parts[2..], &[]));
        assert_eq!(outliving(&parts, &fast), of(&parts[3..], &fast));
        assert_eq!(outliving(&parts[..2], &[]), None);
    }

    #[test]
    fn a_proxy_carries_the_way_to_its_part() {
        let parts = [memory(sized(0, Some(10), 0)), memory(sized(11, None, 0))];
        let store = Store::new(Arc::new(open(&parts)), StoreOptions::default());
        let objects = [5, 20].map(|size| (Bytes::from(vec![7; size]), None)).to_vec();
        for (proxy, part) in store.proxy_batch(objects, Lifetime::Owned).unwrap().iter().zip(&parts) {
            let proxy = Proxy::decode(&proxy.encode().unwrap()).unwrap();
            assert_eq!(proxy.address, address_of(part));
            Resolver::new("w", StoreOptions::default()).resolve(&proxy, false).unwrap();
        }
    }

    #[test]
    fn parts_of_one_place_are_one_connector() {
        let peer = |policy| {
            let spec = ConnectorSpec::Peer { address: PeerAddress::private(), limit: 100 };
            Part { spec, policy }
        };
        let multi = open(&[peer(sized(0, Some(10), 0)), memory(sized(11, Some(20), 0)), peer(sized(21, None, 0))]);
        let keys = [5, 15, 25].map(|size| multi.put(vec![7; size].into()).unwrap());
        assert_eq!(multi.address_for(&keys[0]), multi.address_for(&keys[2]));
        assert_eq!(multi.held(), Some(3), "each is counted once");
        for key in &keys {
            assert!(multi.take(key).unwrap().is_some());
        }
        assert_eq!(multi.held(), Some(0));
    }

    #[test]
    fn by_name_alone_objects_are_found_in_every_part() {
        let keys = KeySource::random();
        let parts = [memory(sized(0, Some(10), 0)), memory(sized(11, None, 0))];
        let multi = MultiConnector::open(&parts, &[], &keys).unwrap();
        for size in [5, 20, 6] {
            multi.put(vec![0; size].into()).unwrap();
        }
        assert_eq!(multi.take(&Key::named(keys.nth(1))).unwrap().unwrap().len(), 20);
        let all: Vec<Key> = (0..keys.made()).map(|n| Key::named(keys.nth(n))).collect();
        assert_eq!(multi.evict_batch(&all).unwrap(), 2);
    }

    #[test]
    fn parts_within_parts_are_refused_at_any_depth() {
        let mut address = Address::of(&MemoryLocation { space: Uuid::nil() }).unwrap();
        for depth in 0..100 {
            let parts = [(address.clone(), Policy::default()), (address, Policy::default())];
            address = Address::of(&MultiLocation { parts: parts[..if depth < 2 { 2 } else { 1 }].to_vec() }).unwrap();
            let error = address.connect().unwrap_err().to_string();
            assert_eq!(error.contains("can't be one itself"), depth > 0, "{error}");
            assert!(address.to_string().len() < 1000 && !address.outlives_process() && address.shown().is_empty());
        }
    }
}
