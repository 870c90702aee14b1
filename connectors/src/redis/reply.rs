//! Replies of a Redis server (RESP2), each value read into memory of its own size.
//!
//! The client library's parser reads 8 KiB at a time into a buffer that it zeroes, grows and moves, and copies the value out of that in
//! the end. Measured with 10 MB values it copied each byte 1.7 times and zeroed it once before.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use redis::{ParsingError, RedisError, RedisResult, Value};

/// The longest line (bytes): a number, or an error's text.
const MAX_LINE: u64 = 64 << 10;
/// The longest value (bytes), far above what servers are set to take (512 MiB unless told otherwise, `proto-max-bulk-len`).
const MAX_BULK: usize = 64 << 30;
/// Memory reserved on a length's word alone (bytes): the longest value of a server as it is installed. A longer one gets the rest
/// as its bytes arrive.
const RESERVED: usize = 512 << 20;
/// The most elements of an array, which is also the most arguments that a server takes.
const MAX_ELEMENTS: usize = 1 << 20;
/// How deep arrays may lie in each other.
const MAX_DEPTH: usize = 8;

/// A source that fills memory which was not zeroed before.
pub trait ReadBulk: Read {
    /// Appends at most `length` bytes, fewer at the end of the stream.
    ///
    /// # Errors
    /// Reading failed; what came before was appended.
    fn read_bulk(&mut self, bulk: &mut Vec<u8>, length: u64) -> io::Result<()>;
}

/// Reads one reply of RESP2: a line, a bulk string, or an array of replies.
///
/// Of a bulk string only what is in the reader's buffer already is copied; the rest goes from `reader`'s source to where it stays. An
/// error that the server answers with is a value, [`Value::ServerError`].
///
/// # Errors
///
/// An I/O error, of kind [`ErrorKind::UnexpectedEof`] for an end amid a reply; a parsing error for what is no RESP2 or past these
/// bounds: lines of 64 KiB, bulk strings of 64 GiB, arrays of 2²⁰ elements, 8 of them within each other. The reader is then amid a
/// reply, and of no further use.
pub fn read_reply<R: ReadBulk>(reader: &mut BufReader<R>) -> RedisResult<Value> {
    read_value(reader, MAX_DEPTH)
}

fn read_value<R: ReadBulk>(reader: &mut BufReader<R>, depth: usize) -> RedisResult<Value> {
    let line = read_line(reader)?;
    match line[0] {
        b'+' | b'-' | b':' => redis::parse_redis_value(&line),
        b'$' => match length(&line, MAX_BULK)? {
            Some(length) => read_bulk(reader, length).map(Value::BulkString),
            None => Ok(Value::Nil),
        },
        b'*' => match length(&line, MAX_ELEMENTS)? {
            Some(_) if depth == 0 => Err(malformed(format!("arrays more than {MAX_DEPTH} deep"))),
            // Collecting a `Result` reserves nothing ahead.
            Some(length) => {
                (0..length).map(|_| read_value(reader, depth - 1)).collect::<RedisResult<_>>().map(Value::Array)
            }
            None => Ok(Value::Nil),
        },
        _ if line.starts_with(b"HTTP/") => {
            Err(malformed(format!("this is no Redis: it answered HTTP, `{}`", excerpt(&line))))
        }
        _ => Err(malformed(format!("`{}` where a reply should begin; is that a Redis server?", excerpt(&line)))),
    }
}

/// A line with its end, thus never empty.
fn read_line<R: Read>(reader: &mut BufReader<R>) -> RedisResult<Vec<u8>> {
    let mut line = Vec::new();
    reader.take(MAX_LINE).read_until(b'\n', &mut line)?;
    if line.ends_with(b"\r\n") {
        Ok(line)
    } else if line.starts_with(b"HTTP/") || line.starts_with(b"<") {
        // Some answer without a head what they do not understand.
        Err(malformed(format!("this is no Redis: it answered HTTP, `{}`", excerpt(&line))))
    } else if line.ends_with(b"\n") || line.len() as u64 == MAX_LINE {
        Err(malformed(format!("a line without its end, `{}`", excerpt(&line))))
    } else {
        Err(io::Error::from(ErrorKind::UnexpectedEof).into())
    }
}

/// The length that a line announces; `None` for -1, which stands for no value.
fn length(line: &[u8], most: usize) -> RedisResult<Option<usize>> {
    let digits = std::str::from_utf8(&line[1..line.len() - 2]).unwrap_or_default();
    match digits.parse::<i64>().map(usize::try_from) {
        Ok(Ok(length)) if length <= most => Ok(Some(length)),
        _ if digits == "-1" => Ok(None),
        _ => Err(malformed(format!("`{}` for a length of at most {most}", excerpt(line)))),
    }
}

fn read_bulk<R: ReadBulk>(reader: &mut BufReader<R>, length: usize) -> RedisResult<Vec<u8>> {
    let mut bulk = Vec::new();
    bulk.try_reserve_exact(length.min(RESERVED)).map_err(|error| io::Error::new(ErrorKind::OutOfMemory, error))?;
    let buffered = length.min(reader.buffer().len());
    bulk.extend_from_slice(&reader.buffer()[..buffered]);
    reader.consume(buffered);
    // Not through the buffer: a long read begins with short ones, which would be copied out of it.
    reader.get_mut().read_bulk(&mut bulk, (length - buffered) as u64)?;
    if bulk.len() < length {
        return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
    }
    let mut end = [0; 2];
    reader.read_exact(&mut end)?;
    if end == *b"\r\n" { Ok(bulk) } else { Err(malformed(format!("a value longer than its length of {length}"))) }
}

/// What of a line is fit for a message.
fn excerpt(line: &[u8]) -> String {
    line[..line.len().min(40)].trim_ascii().escape_ascii().to_string()
}

fn malformed(reason: String) -> RedisError {
    ParsingError::from(reason).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl ReadBulk for &[u8] {
        fn read_bulk(&mut self, bulk: &mut Vec<u8>, length: u64) -> io::Result<()> {
            self.take(length).read_to_end(bulk).map(drop)
        }
    }

    /// Reads one reply through a small buffer, which longer values go past; returns what is left, too.
    fn read(bytes: &[u8]) -> RedisResult<(Value, Vec<u8>)> {
        let mut reader = BufReader::with_capacity(16, bytes);
        let value = read_reply(&mut reader)?;
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest)?;
        Ok((value, rest))
    }

    fn refusal(bytes: &[u8]) -> String {
        let error = read(bytes).unwrap_err();
        assert_eq!(error.kind(), redis::ErrorKind::Parse, "{error}");
        error.to_string()
    }

    fn bulk(bytes: &[u8]) -> Value {
        Value::BulkString(bytes.to_vec())
    }

    fn encode(value: &Value) -> Vec<u8> {
        match value {
            Value::Nil => b"$-1\r\n".to_vec(),
            Value::Okay => b"+OK\r\n".to_vec(),
            Value::Int(number) => format!(":{number}\r\n").into_bytes(),
            Value::SimpleString(text) => format!("+{text}\r\n").into_bytes(),
            Value::BulkString(bytes) => [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat(),
            Value::Array(values) => {
                let values: Vec<u8> = values.iter().flat_map(encode).collect();
                [format!("*{}\r\n", values_of(value)).as_bytes(), &values].concat()
            }
            other => panic!("no reply of these tests: {other:?}"),
        }
    }

    fn values_of(value: &Value) -> usize {
        if let Value::Array(values) = value { values.len() } else { 0 }
    }

    fn replies() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            Just(Value::Okay),
            any::<i64>().prop_map(Value::Int),
            "[a-z ]{0,20}".prop_map(Value::SimpleString),
            prop::collection::vec(any::<u8>(), 0..100).prop_map(Value::BulkString),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| prop::collection::vec(inner, 0..5).prop_map(Value::Array))
    }

    proptest! {
        #[test]
        fn replies_are_read_to_their_end_and_no_further(value in replies(), rest in prop::collection::vec(any::<u8>(), 0..40)) {
            let bytes = [encode(&value), rest.clone()].concat();
            prop_assert_eq!(read(&bytes).unwrap(), (value, rest));
        }

        #[test]
        fn a_reply_cut_anywhere_is_an_end_amid_it(value in replies()) {
            let bytes = encode(&value);
            for cut in 0..bytes.len() {
                let error = read(&bytes[..cut]).unwrap_err();
                prop_assert!(error.is_connection_dropped(), "{} of {}: {}", cut, bytes.len(), error);
            }
        }

        #[test]
        fn our_reading_is_the_librarys(value in replies()) {
            let bytes = encode(&value);
            prop_assert_eq!(read(&bytes).unwrap().0, redis::parse_redis_value(&bytes).unwrap());
        }

        #[test]
        fn any_bytes_are_a_reply_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64), kind in "[+:$*-]?[-0-9]{0,20}(\r\n)?") {
            let bytes = [kind.as_bytes(), &bytes].concat();
            if let Ok((_, rest)) = read(&bytes) {
                prop_assert!(bytes.ends_with(&rest) && rest.len() < bytes.len());
            }
        }
    }

    #[test]
    fn the_kinds_of_replies_are_told_apart() {
        assert_eq!(read(b"+OK\r\n").unwrap().0, Value::Okay);
        assert_eq!(read(b"+PONG\r\n").unwrap().0, Value::SimpleString("PONG".into()));
        assert_eq!(read(b":-42\r\n").unwrap().0, Value::Int(-42));
        assert_eq!(read(b"$0\r\n\r\n").unwrap().0, bulk(b""));
        assert_eq!(read(b"$4\r\na\r\nb\r\n").unwrap().0, bulk(b"a\r\nb"));
        assert_eq!(read(b"$-1\r\n").unwrap().0, Value::Nil);
        assert_eq!(read(b"*-1\r\n").unwrap().0, Value::Nil);
        assert_eq!(read(b"*0\r\n").unwrap().0, Value::Array(Vec::new()));
        let push = Value::Array(vec![bulk(b"message"), bulk(b"topic"), bulk(b"payload")]);
        assert_eq!(read(b"*3\r\n$7\r\nmessage\r\n$5\r\ntopic\r\n$7\r\npayload\r\n").unwrap().0, push);
    }

    #[test]
    fn a_servers_error_keeps_its_code() {
        let (value, rest) = read(b"-OOM command not allowed\r\n+OK\r\n").unwrap();
        assert_eq!(value.extract_error().unwrap_err().code(), Some("OOM"));
        assert_eq!(rest, b"+OK\r\n");
        let (value, _) = read(b"-NOPERM no\r\n").unwrap();
        assert_eq!(value.extract_error().unwrap_err().code(), Some("NOPERM"));
    }

    #[test]
    fn a_value_takes_memory_of_its_size() {
        let object = vec![7; 3_000_000];
        let Value::BulkString(value) = read(&encode(&bulk(&object))).unwrap().0 else { panic!("no bulk string") };
        assert!(value == object);
        assert_eq!(value.capacity(), object.len());
    }

    #[test]
    fn absurd_lengths_cost_nothing() {
        for line in
            ["$68719476737", "$9223372036854775807", "$99999999999999999999", "*1048577", "$-2", "*-2", "$", "$1x"]
        {
            let error = refusal(format!("{line}\r\nabc\r\n").as_bytes());
            assert!(error.contains(line), "{error}");
        }
        // Within bounds, but the bytes never come.
        for line in ["$68719476736", "*1048576"] {
            assert!(read(format!("{line}\r\n").as_bytes()).unwrap_err().is_connection_dropped());
        }
    }

    #[test]
    fn what_redis_would_not_say_is_refused() {
        assert!(refusal(b"HTTP/1.1 400 Bad Request\r\n\r\n").contains("`HTTP/1.1 400 Bad Request`"));
        assert!(refusal(b"<!DOCTYPE HTML>\n<html>").contains("no Redis: it answered HTTP"));
        refusal(b"\r\n");
        refusal(b"+OK\n");
        refusal(b":many\r\n");
        refusal(b"$3\r\nabcd\r\n");
        refusal(&[b'+'; 70 << 10]);
        refusal(&b"*1\r\n".repeat(9));
        assert_eq!(read(&[&b"*1\r\n".repeat(8)[..], b":1\r\n"].concat()).unwrap().1, b"");
    }
}
