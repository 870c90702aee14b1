//! Pickles that Python wrote, pickles that nobody should write, and any bytes at all.

use bytes::Bytes;
use proptest::prelude::*;

use super::{Document, Global, MAX_OPCODES, MAX_SEARCHED, PickleError, Value, Writer};

fn read(pickle: &'static [u8]) -> Document {
    let document = Document::read(Bytes::from_static(pickle)).unwrap();
    for end in 0..pickle.len() {
        Document::read(Bytes::from_static(&pickle[..end])).expect_err("a part of a pickle is none");
    }
    document
}

fn refused(pickle: &'static [u8]) -> PickleError {
    Document::read(Bytes::from_static(pickle)).unwrap_err()
}

/// As Python would show it, near enough; for values that are no deeper than a test's.
fn show(value: Value<'_>) -> String {
    let join = |parts: Vec<String>| parts.join(", ");
    if let Some(entries) = value.entries() {
        return format!(
            "{{{}}}",
            join(entries.map(|(key, value)| format!("{}: {}", show(key), show(value))).collect())
        );
    }
    if let Some(elements) = value.elements() {
        return format!("{}({})", value.type_name().rsplit(' ').next().unwrap(), join(elements.map(show).collect()));
    }
    if let Some(object) = value.as_object() {
        return format!("{:?}{} with {:?}", object.global, show(object.args), object.state.map(show));
    }
    None.or_else(|| value.as_bool().map(|value| value.to_string()))
        .or_else(|| value.as_int().map(|value| value.to_string()))
        .or_else(|| value.as_float().map(|value| format!("{value:?}")))
        .or_else(|| value.as_str().map(|value| format!("{value:?}")))
        .or_else(|| value.as_bytes().map(|value| format!("{value:?}")))
        .unwrap_or_else(|| value.type_name().to_owned())
}

#[test]
fn numbers_and_constants() {
    // pickle.dumps([None, True, False, 1, 256, 70000, -1, 2**31, -2**63, 2**200, 1.5], 5)
    let document = read(
        b"\x80\x05\x95M\x00\x00\x00\x00\x00\x00\x00]\x94(N\x88\x89K\x01M\x00\x01Jp\x11\x01\x00J\xff\xff\xff\xff\x8a\x05\x00\x00\x00\x80\x00\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80\x8a\x1a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01G?\xf8\x00\x00\x00\x00\x00\x00e.",
    );
    let expected = "list(None, true, false, 1, 256, 70000, -1, 2147483648, -9223372036854775808, an int, 1.5)";
    assert_eq!(show(document.root()), expected);
    assert!(document.root().elements().unwrap().next().unwrap().is_none());
}

#[test]
fn texts_and_bytes() {
    // pickle.dumps("aé", 4)
    assert_eq!(show(read(b"\x80\x04\x95\x07\x00\x00\x00\x00\x00\x00\x00\x8c\x03a\xc3\xa9\x94.").root()), "\"aé\"");
    // pickle.dumps(b"ab", 4)
    assert_eq!(show(read(b"\x80\x04\x95\x06\x00\x00\x00\x00\x00\x00\x00C\x02ab\x94.").root()), "b\"ab\"");
    // pickle.dumps(bytearray(b"ab"), 5)
    let array = read(b"\x80\x05\x95\x0d\x00\x00\x00\x00\x00\x00\x00\x96\x02\x00\x00\x00\x00\x00\x00\x00ab\x94.");
    assert_eq!(show(array.root()), "b\"ab\"");
    // As Python writes longer ones: the lengths of 4 and of 8 bytes.
    assert_eq!(show(read(b"\x80\x04X\x02\x00\x00\x00ab.").root()), "\"ab\"");
    assert_eq!(show(read(b"\x80\x04\x8d\x02\x00\x00\x00\x00\x00\x00\x00ab.").root()), "\"ab\"");
    assert_eq!(show(read(b"\x80\x04B\x02\x00\x00\x00ab.").root()), "b\"ab\"");
    assert_eq!(show(read(b"\x80\x04\x8e\x02\x00\x00\x00\x00\x00\x00\x00ab.").root()), "b\"ab\"");
}

#[test]
fn containers() {
    // pickle.dumps(((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)), 4)
    let tuples = read(
        b"\x80\x04\x95\"\x00\x00\x00\x00\x00\x00\x00()K\x01\x85\x94K\x01K\x02\x86\x94K\x01K\x02K\x03\x87\x94(K\x01K\x02K\x03K\x04t\x94t\x94.",
    );
    assert_eq!(show(tuples.root()), "tuple(tuple(), tuple(1), tuple(1, 2), tuple(1, 2, 3), tuple(1, 2, 3, 4))");
    // pickle.dumps({"a": 1, "b": {2}, "c": frozenset([3]), "d": {}, "e": {4: 5}}, 4)
    let dict = read(
        b"\x80\x04\x95/\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94K\x01\x8c\x01b\x94\x8f\x94(K\x02\x90\x8c\x01c\x94(K\x03\x91\x94\x8c\x01d\x94}\x94\x8c\x01e\x94}\x94K\x04K\x05su.",
    );
    assert_eq!(show(dict.root()), r#"{"a": 1, "b": set(2), "c": set(3), "d": {}, "e": {4: 5}}"#);
    assert_eq!(dict.root().get("a").and_then(Value::as_int), Some(1));
    assert!(dict.root().get("z").is_none());
}

#[test]
fn the_memo_gives_the_same_value_again() {
    // pickle.dumps((l := ["x"], l), 5)
    let twice = read(b"\x80\x05\x95\x0c\x00\x00\x00\x00\x00\x00\x00]\x94\x8c\x01x\x94ah\x00\x86\x94.");
    assert_eq!(show(twice.root()), r#"tuple(list("x"), list("x"))"#);
    // pickle.dumps(["a", ["a"]], 2), with the two longer forms in place of one put and one get.
    let older = read(b"\x80\x02]q\x00(X\x01\x00\x00\x00ar\x01\x00\x00\x00]q\x02j\x01\x00\x00\x00ae.");
    assert_eq!(show(older.root()), r#"list("a", list("a"))"#);
    // l = []; l.append(l); pickle.dumps(l, 4)
    let circle = read(b"\x80\x04\x95\x06\x00\x00\x00\x00\x00\x00\x00]\x94h\x00a.");
    let inner = circle.root().elements().unwrap().next().unwrap();
    assert_eq!(inner.elements().unwrap().len(), 1);
}

#[test]
fn the_stack_can_be_tidied() {
    // DUP, POP, POP_MARK
    assert_eq!(show(read(b"K\x01K\x0220(K\x03K\x041\x86.").root()), "tuple(1, 2)");
}

#[test]
fn configurations_become_data() {
    // pickle.dumps(StoreConfig.model_validate, 4) names it in this way, here called with a dict.
    let call = read(b"\x80\x04\x8c\x17proxystore.store.config\x8c\x1aStoreConfig.model_validate\x93}\x85R.");
    assert_eq!(show(call.root()), "ValidateStoreConfigtuple({}) with None");
    let older = read(b"\x80\x02cproxystore.store.config\nConnectorConfig\n)\x81}b.");
    assert_eq!(show(older.root()), "ConnectorConfigtuple() with Some(\"{}\")");
}

#[test]
fn all_else_of_python_is_a_name() {
    // pickle.dumps(os.system, 4)
    let newer = read(b"\x80\x04\x95\x14\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.");
    // pickle.dumps(os.system, 2)
    let older = read(b"\x80\x02cposix\nsystem\nq\x00.");
    // What pickle.dumps makes of an object whose __reduce__ returns (os.system, ("id",)), and of a call of what that returns.
    let call = read(b"\x80\x04cposix\nsystem\n\x8c\x02id\x85R.");
    let twice = read(b"\x80\x04cposix\nsystem\n\x8c\x02id\x85R)R.");
    for document in [&newer, &older, &call, &twice] {
        let value = document.root();
        assert_eq!((value.foreign(), value.as_object().is_none()), (Some(("posix", "system")), true));
    }
    assert!(matches!(refused(b"\x80\x04Pid\n."), PickleError::Opcode { opcode: b'P', at: 2 }), "persistent ids");
    assert!(matches!(refused(b"\x80\x02\x82\x01."), PickleError::Opcode { opcode: 0x82, at: 2 }), "extension codes");
}

#[test]
fn each_value_knows_its_part_of_the_pickle() {
    // pickle.dumps([(1, 2), {"a": (3, 4)}, frozenset((5,)), b"xy"], 4), and the tuple once more.
    let document = read(
        b"\x80\x04]\x94(K\x01K\x02\x86\x94}\x94\x8c\x01a\x94K\x03K\x04\x86\x94s(K\x05\x91\x94C\x02xy\x94cx\ny\nK\x06\x85Rh\x01e.",
    );
    let parts: Vec<_> = document.root().elements().unwrap().map(Value::serialised).collect();
    let expected: [&[u8]; 6] = [
        b"K\x01K\x02\x86\x94",
        b"}\x94\x8c\x01a\x94K\x03K\x04\x86\x94s",
        b"(K\x05\x91\x94",
        b"C\x02xy\x94",
        b"cx\ny\nK\x06\x85R",
        b"K\x01K\x02\x86\x94",
    ];
    assert_eq!(parts, expected);
}

#[test]
fn nonsense_is_named() {
    for (pickle, expected) in [
        (&b"."[..], "an empty stack"),
        (b"NN.", "left over"),
        (b"(N.", "left over"),
        (b"N.N", "follows its end"),
        (b"\x80\x06N.", "newer than 5"),
        (b"N(\x85.", "an empty stack"),
        (b"1.", "no mark"),
        (b"(e.", "an empty stack"),
        (b"N(Ne.", "no list"),
        (b"N(NNu.", "no dict"),
        (b"}(Nu.", "without a value"),
        (b"N(N\x90.", "no set"),
        (b"h\x00.", "never put"),
        (b"Nq\x05.", "gap in the memo"),
        (b"NN\x81.", "no global"),
        (b"NNb.", "no object"),
        (b"NN\x93.", "no text"),
        (b"\x8c\x01\xff.", "not UTF-8"),
    ] {
        let error = refused(pickle).to_string();
        assert!(error.contains(expected), "{}: {error}", pickle.escape_ascii());
    }
}

#[test]
fn lengths_are_held_against_what_is_there() {
    for opcode in [b'B', b'X', 0x8b] {
        let absurd = [&[opcode][..], &[0xff; 4], b"x."].concat();
        assert!(matches!(Document::read(absurd.into()), Err(PickleError::Truncated { .. })));
    }
    for opcode in [0x8e, 0x8d, 0x96, 0x95] {
        let absurd = [&[opcode][..], &[0xff; 7], &[0x7f], b"x."].concat();
        assert!(matches!(Document::read(absurd.into()), Err(PickleError::Truncated { .. })));
    }
}

#[test]
fn a_billion_laughs_are_a_few_values() {
    // Each list has the one before a hundred times: 100 ** 100 elements for whoever would write them out.
    let mut pickle = b"]\x94".to_vec();
    for level in 0..100_u8 {
        pickle.extend_from_slice(b"](");
        (0..100).for_each(|_| pickle.extend_from_slice(&[b'h', level]));
        pickle.extend_from_slice(b"e\x94");
    }
    // All but the last one are still on the stack.
    pickle.extend_from_slice(b"\x85");
    (0..100).for_each(|_| pickle.extend_from_slice(b"\x86"));
    pickle.push(b'.');
    let document = Document::read(pickle.into()).unwrap();
    assert_eq!(document.nodes.len(), 101 + 101);
}

#[test]
fn depth_costs_no_stack() {
    let deep = [&b"]"[..], &b"\x85".repeat(MAX_OPCODES - 2), b"."].concat();
    drop(Document::read(deep.into()).unwrap());
}

#[test]
fn it_ends() {
    let long = [&b"N".repeat(MAX_OPCODES), &b"."[..]].concat();
    assert_eq!(Document::read(long.into()).unwrap_err(), PickleError::TooLong);
}

#[test]
fn a_dictionary_that_is_too_large_is_not_searched() {
    let dictionary = |entries: usize| {
        let mut writer = Writer::default();
        writer.dict(|writer| {
            for n in 0..entries {
                writer.str(&n.to_string());
                writer.bool(true);
            }
        });
        Document::read(joined(writer)).unwrap()
    };
    assert!(dictionary(MAX_SEARCHED).root().get("7").is_some());
    assert!(dictionary(MAX_SEARCHED + 1).root().get("7").is_none());
}

#[test]
fn data_is_neither_copied_nor_read() {
    let data = Bytes::from(vec![b'.'; 1000]);
    let mut writer = Writer::default();
    writer.bytes(data.clone());
    let pickle = writer.finish();
    assert_eq!(pickle.parts().nth(1).unwrap().as_ptr(), data.as_ptr());
    let message = Bytes::from(pickle.parts().collect::<Vec<_>>().concat());
    assert_eq!(message.len(), pickle.len());
    let read = Document::read(message.clone()).unwrap().root().as_bytes().unwrap();
    assert_eq!(read, data);
    assert!(message.as_ptr_range().contains(&read.as_ptr()));
}

fn joined(writer: Writer) -> Bytes {
    writer.finish().parts().collect::<Vec<_>>().concat().into()
}

/// What the writer can write.
#[derive(Clone, Debug)]
enum Tree {
    Bool(bool),
    Int(i128),
    Str(String),
    Bytes(Vec<u8>),
    List(Vec<Tree>),
    Dict(Vec<(String, Tree)>),
    Call(Box<Tree>),
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Tree::Bool),
        any::<i128>().prop_map(Tree::Int),
        any::<i32>().prop_map(|small| Tree::Int(small.into())),
        any::<String>().prop_map(Tree::Str),
        any::<Vec<u8>>().prop_map(Tree::Bytes),
    ];
    leaf.prop_recursive(4, 40, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Tree::List),
            prop::collection::vec((any::<String>(), inner.clone()), 0..8).prop_map(Tree::Dict),
            inner.prop_map(|argument| Tree::Call(Box::new(argument))),
        ]
    })
}

fn write(writer: &mut Writer, tree: &Tree) {
    match tree {
        Tree::Bool(value) => writer.bool(*value),
        Tree::Int(value) => writer.int(*value),
        Tree::Str(value) => writer.str(value),
        Tree::Bytes(value) => writer.bytes(value.clone().into()),
        Tree::List(elements) => writer.list(|writer| elements.iter().for_each(|element| write(writer, element))),
        Tree::Dict(entries) => writer.dict(|writer| {
            for (key, value) in entries {
                writer.str(key);
                write(writer, value);
            }
        }),
        Tree::Call(argument) => writer.call(Global::ValidateStoreConfig, |writer| write(writer, argument)),
    }
}

fn agrees(value: Value<'_>, tree: &Tree) -> bool {
    match tree {
        Tree::Bool(expected) => value.as_bool() == Some(*expected),
        Tree::Int(expected) => value.as_int() == Some(*expected),
        Tree::Str(expected) => value.as_str() == Some(expected),
        Tree::Bytes(expected) => {
            value.type_name() == "bytes" && value.as_bytes().is_some_and(|bytes| bytes == *expected)
        }
        Tree::List(expected) => value.elements().is_some_and(|elements| {
            elements.len() == expected.len()
                && elements.zip(expected).all(|(element, expected)| agrees(element, expected))
        }),
        Tree::Dict(expected) => value.entries().is_some_and(|entries| {
            entries.len() == expected.len()
                && entries
                    .zip(expected)
                    .all(|((key, value), (name, expected))| key.as_str() == Some(name) && agrees(value, expected))
        }),
        Tree::Call(expected) => value.as_object().is_some_and(|object| {
            object.global == Global::ValidateStoreConfig
                && object
                    .args
                    .elements()
                    .is_some_and(|mut arguments| arguments.next().is_some_and(|argument| agrees(argument, expected)))
        }),
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(tree in trees(), cut in any::<prop::sample::Index>()) {
        let mut writer = Writer::default();
        write(&mut writer, &tree);
        let pickle = joined(writer);
        let document = Document::read(pickle.clone()).unwrap();
        prop_assert!(agrees(document.root(), &tree), "{}", pickle.escape_ascii());
        prop_assert!(Document::read(pickle.slice(..cut.index(pickle.len()))).is_err());
    }

    #[test]
    fn any_bytes_are_a_pickle_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Document::read(bytes.into());
    }

    #[test]
    fn any_opcodes_are_a_pickle_or_an_error(opcodes in prop::collection::vec(prop::sample::select(&b"()012KNRX]abcehjqstu}\x80\x81\x85\x86\x87\x88\x8a\x8c\x8f\x90\x91\x93\x94"[..]), 0..200)) {
        let _ = Document::read([&opcodes[..], b"."].concat().into());
    }
}
