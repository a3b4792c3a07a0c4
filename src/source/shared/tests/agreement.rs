//! Whatever befalls the record: every sequence of a few steps, and random ones of many.

use proptest::prelude::*;

use super::*;

/// Where three nodes and the record stand, all of which had the same key at first.
#[derive(Clone)]
struct Standing {
    record: Option<Vec<u8>>,
    nodes: [Memo; 3],
}

/// What makes up a node, and whether it has heard that the key is revoked.
#[derive(Clone, Default)]
struct Memo {
    held: Option<Record>,
    revoked: Vec<KeyName>,
    withdrawn: HashSet<KeyName>,
    knows: bool,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Asks(usize),
    Revokes,
    Restarts(usize),
    IsLost,
    IsRestored,
}

impl Standing {
    /// Takes one more step. A node that knows of the revocation must not be given the key again.
    fn after(&self, step: Step, key: KeyName, old: &Option<Vec<u8>>) -> Self {
        let mut next = self.clone();
        match step {
            Step::IsLost => next.record = None,
            Step::IsRestored => next.record = old.clone(),
            Step::Restarts(node) => next.nodes[node] = Memo::default(),
            Step::Revokes => next.ask(0, key, true),
            Step::Asks(node) => next.ask(node, key, false),
        }
        next
    }

    fn ask(&mut self, node: usize, key: KeyName, revokes: bool) {
        let place = Memory::default();
        place.set(self.record.take());
        let memo = &mut self.nodes[node];
        if revokes {
            memo.revoked = vec![key];
        }
        let mut node = Node {
            held: memo.held.take(),
            withdrawn: std::mem::take(&mut memo.withdrawn),
            ..place.node()
        };
        let rotation = Rotation::new();
        let had = node
            .held
            .as_ref()
            .is_some_and(|held| names(held).contains(&key));
        let keys = node.ask_by(&query(NOW, &rotation, false, &memo.revoked));
        let has = keys.contains(&key);
        assert!(!(has && memo.knows), "the key is back");
        memo.knows |= revokes || had && !has;
        memo.held = node.held;
        memo.withdrawn = node.withdrawn;
        self.record = place.get();
    }
}

#[test]
fn no_five_steps_bring_back_a_key_that_a_node_knew_to_be_revoked() {
    let place = Memory::default();
    let mut nodes = [(); 3].map(|()| place.node());
    let key = nodes[0].ask(NOW, false)[0];
    let old = place.get();
    let nodes = nodes.each_mut().map(|node| {
        node.ask(NOW, false);
        Memo {
            held: node.held.clone(),
            ..Memo::default()
        }
    });
    let of_nodes = (0..3).flat_map(|node| [Step::Asks(node), Step::Restarts(node)]);
    let of_all = [Step::Revokes, Step::IsLost, Step::IsRestored];
    let steps: Vec<_> = of_nodes.chain(of_all).collect();
    let record = old.clone();
    let mut standing = vec![Standing { record, nodes }];
    for _ in 0..4 {
        let next = |from: &Standing| {
            steps
                .iter()
                .map(|step| from.after(*step, key, &old))
                .collect()
        };
        standing = standing
            .iter()
            .flat_map(|from| -> Vec<_> { next(from) })
            .collect();
    }
    // The last step matters only if it gives somebody keys.
    for from in &standing {
        for node in 0..3 {
            from.after(Step::Asks(node), key, &old);
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Asks(usize),
    Rotates(usize),
    Revokes(usize),
    Restarts(usize),
    IsLost,
    IsRestored(prop::sample::Index),
    Passes(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let node = || 0..NODES;
    prop_oneof![
        6 => node().prop_map(Event::Asks),
        2 => node().prop_map(Event::Rotates),
        1 => node().prop_map(Event::Revokes),
        1 => node().prop_map(Event::Restarts),
        1 => Just(Event::IsLost),
        1 => any::<prop::sample::Index>().prop_map(Event::IsRestored),
        3 => (0_u64..3 * 60 * 60 * 1000).prop_map(Event::Passes),
    ]
}

const NODES: usize = 4;

proptest! {
    /// Whatever befell the record, once all nodes have looked twice they agree, on keys of
    /// which one seals, and on none that had expired or that a node remembers to have revoked.
    #[test]
    fn nodes_come_to_agree(events in prop::collection::vec(event(), 1..80)) {
        let rotation = Rotation::new();
        let place = Memory::default();
        let mut nodes = [(); NODES].map(|()| (place.node(), Vec::new()));
        let (mut now, mut copies) = (NOW, vec![None]);
        for event in events {
            match event {
                Event::Asks(node) | Event::Rotates(node) => {
                    let (node, revoked) = &mut nodes[node];
                    let rotate = matches!(event, Event::Rotates(_));
                    node.ask_by(&query(now, &rotation, rotate, revoked));
                }
                Event::Revokes(node) => {
                    let (node, revoked) = &mut nodes[node];
                    revoked.extend(node.held.iter().flat_map(names));
                    node.ask_by(&query(now, &rotation, false, revoked));
                }
                Event::Restarts(node) => nodes[node] = (place.node(), Vec::new()),
                Event::IsLost => place.set(None),
                Event::IsRestored(copy) => place.set(copy.get(&copies).clone()),
                Event::Passes(millis) => now = Time(now.0 + millis),
            }
            copies.push(place.get());
        }
        for _ in 0..2 {
            for (node, revoked) in &mut nodes {
                node.ask_by(&query(now, &rotation, false, revoked));
            }
        }
        let version = place.version();
        let keys: Vec<_> = nodes
            .iter_mut()
            .map(|(node, _)| node.ask(now, false))
            .collect();
        prop_assert_eq!(place.version(), version, "nothing more to do");
        prop_assert!(keys.iter().all(|of_node| *of_node == keys[0]));
        let revoked = nodes.iter().flat_map(|(_, revoked)| revoked);
        prop_assert!(revoked.into_iter().all(|name| !keys[0].contains(name)));
        let windows = nodes[0].0.held.iter().flat_map(Record::source_keys);
        let windows: Vec<_> = windows.map(|key| key.window).collect();
        prop_assert!(windows.iter().all(|window| now < window.expires));
        prop_assert!(windows.iter().any(|window| window.seals(now)));
    }
}
