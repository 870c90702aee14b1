// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The program of the sockmap data server: moves what a connection receives to the socket of its other leg, within the kernel.
 *
 * Rebuild sockmap.bpf.o after a change, in this folder, with Debian 12's clang-14:
 *
 *     clang-14 -O2 -g -target bpf -mcpu=v2 -fdebug-compilation-dir=. -c sockmap.bpf.c -o sockmap.bpf.o
 *
 * A test compiles it too and compares the bytes. It needs no header: what it takes from the kernel is declared here, and the offsets of
 * the fields are put right for the running kernel from its BTF (CO-RE) when it is loaded. Little-endian, as the object says of itself.
 *
 * Each socket has two records, found by its cookie, which the kernel gives to no other socket: `counts`, which only this program
 * writes, and `grants`, which only the data server writes. Programs of one socket run one at a time, under its lock.
 *
 * What a socket receives goes to its peer for as long as that has room to send. Beyond that it is passed to the socket itself, as if there
 * were no program: its receive buffer fills and TCP makes the sender wait. The data server reads what was passed and writes it to the
 * peer by itself; while any of it is under way (`passed` is not `taken`) nothing is redirected, so that no byte overtakes another.
 */

typedef unsigned char u8;
typedef unsigned int u32;
typedef int s32;
typedef unsigned long long u64;
typedef long long s64;

/* Of the kernel's interface: linux/bpf.h. */
enum { BPF_MAP_TYPE_HASH = 1, BPF_MAP_TYPE_SOCKHASH = 18 };
enum { BPF_F_NO_PREALLOC = 1 };
enum sk_action { SK_DROP, SK_PASS };

/* The context of the programs: only these two fields are read, where linux/bpf.h has them. */
struct __sk_buff {
	u32 len;
	u32 before_cb[11];
	u32 cb[5];
	u32 before_sk[25];
	void *sk;
};
_Static_assert(__builtin_offsetof(struct __sk_buff, sk) == 168, "where linux/bpf.h has it");

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static s64 (*const bpf_sk_redirect_hash)(struct __sk_buff *skb, void *map, void *key, u64 flags) = (void *)72;
static s64 (*const bpf_skb_adjust_room)(struct __sk_buff *skb, s32 by, u32 mode, u64 flags) = (void *)50;
static s64 (*const bpf_sk_release)(void *sk) = (void *)86;
static struct tcp_sock *(*const bpf_skc_to_tcp_sock)(void *sk) = (void *)137;

/* Of the kernel's inside: the fields that are read; their places come from its BTF. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
typedef struct {
	s64 counter;
} atomic64_t;
struct sock_common {
	atomic64_t skc_cookie;
};
struct sock {
	struct sock_common __sk_common;
	int sk_sndbuf;
	int sk_wmem_queued;
};
struct inet_sock {
	struct sock sk;
};
struct inet_connection_sock {
	struct inet_sock icsk_inet;
};
struct tcp_sock {
	struct inet_connection_sock inet_conn;
	u64 bytes_received;
	u32 rcv_nxt;
	u32 write_seq;
};
#pragma clang attribute pop

#define SEC(name) __attribute__((section(name), used))
/* How a map is described: in the types of members that are never there. */
#define NUMBER(name, value) int(*name)[value]
#define TYPE(name, type) type *name

/* What became of a socket's bytes. The data server reads it as so many u64. */
struct counts {
	/* Bytes that went to the peer. */
	u64 redirected;
	/* Bytes that were passed to the socket itself. */
	u64 passed;
	/* The peer's `write_seq` before the first byte that went there. */
	u64 base;
	/* Buffers that wait at the peer, at most: those that came before `mark`, counted in bytes redirected, and those since. */
	u64 mark;
	u64 before;
	u64 since;
};

/* What a socket may do. The data server replaces it as a whole. */
struct grant {
	/* The socket's peer. */
	u64 peer;
	/* The most that may wait at the peer until its send buffer has room: bytes, below 2^31, ... */
	u64 bytes;
	/* ... and buffers, each of which costs the kernel its descriptor, however few its bytes. */
	u64 buffers;
	/* How many of the bytes that were passed have been written to the peer. */
	u64 taken;
};

/* The data server sets how many there can be. */
struct {
	NUMBER(type, BPF_MAP_TYPE_SOCKHASH);
	TYPE(key, u64);
	TYPE(value, u32);
	NUMBER(max_entries, 1024);
} sockets SEC(".maps");

/* Not preallocated: records of a closed socket are freed once no program sees them, not handed to another socket before. */
struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(map_flags, BPF_F_NO_PREALLOC);
	TYPE(key, u64);
	TYPE(value, struct counts);
	NUMBER(max_entries, 1024);
} counts SEC(".maps");

struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(map_flags, BPF_F_NO_PREALLOC);
	TYPE(key, u64);
	TYPE(value, struct grant);
	NUMBER(max_entries, 1024);
} grants SEC(".maps");

static inline __attribute__((always_inline)) struct tcp_sock *receiver(struct __sk_buff *skb)
{
	void *sk = skb->sk;
	return sk ? bpf_skc_to_tcp_sock(sk) : 0;
}

/* Whether the peer can take so many bytes more: no more waits there than the grant allows. */
static inline __attribute__((always_inline)) int has_room(struct counts *count, struct grant *grant, u64 bytes)
{
	u64 peer = grant->peer;
	void *sk = bpf_map_lookup_elem(&sockets, &peer);
	if (!sk)
		return 0;
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	u32 written = tcp ? tcp->write_seq : 0;
	s64 room = tcp ? (s64)tcp->inet_conn.icsk_inet.sk.sk_sndbuf - tcp->inet_conn.icsk_inet.sk.sk_wmem_queued : 0;
	bpf_sk_release(sk);
	if (room <= 0)
		return 0;

	if (!count->redirected)
		count->base = (u32)(written - (u32)grant->taken);
	u32 waiting = (u32)(count->redirected + grant->taken) - (written - (u32)count->base);
	if (count->redirected - waiting >= count->mark) {
		count->mark = count->redirected;
		count->before = count->since;
		count->since = 0;
	}
	u64 after = waiting + bytes;
	return after <= (u64)room && after <= grant->bytes && count->before + count->since < grant->buffers;
}

/*
 * A buffer may begin with bytes that came before: segments that were sent again, in other bounds. The kernel does not skip them here.
 */
static inline __attribute__((always_inline)) s64 skip(struct __sk_buff *skb, u32 bytes)
{
	for (int step = 0; step < 32 && bytes; step++) {
		u32 now = bytes > 4095 ? 4095 : bytes;
		s64 failed = bpf_skb_adjust_room(skb, -(s32)now, 0, 0);
		if (failed)
			return failed;
		bytes -= now;
	}
	return bytes;
}

SEC("sk_skb/stream_verdict")
int verdict(struct __sk_buff *skb)
{
	u64 length = skb->len;
	struct tcp_sock *tcp = receiver(skb);
	/* The end of a stream, which the socket knows of by itself: as a message it would break the queue that it had to wait in. */
	if (!length)
		return SK_DROP;
	if (!tcp)
		return SK_PASS;
	u64 cookie = tcp->inet_conn.icsk_inet.sk.__sk_common.skc_cookie.counter;
	struct counts *count = bpf_map_lookup_elem(&counts, &cookie);
	struct grant *grant = bpf_map_lookup_elem(&grants, &cookie);
	if (!count || !grant)
		return SK_PASS;

	/* Of the first byte that was not seen yet. FIN has a number, too, and is in both sums. */
	u32 next = tcp->rcv_nxt - (u32)tcp->bytes_received + (u32)(count->redirected + count->passed);
	/* What TCP keeps there: the number of the buffer's first byte. */
	u32 before = next - skb->cb[0];
	if (before && before < length) {
		length -= before;
		if (skip(skb, before))
			return SK_DROP;
	}

	u64 peer = grant->peer;
	if (count->passed == grant->taken && has_room(count, grant, length) &&
	    bpf_sk_redirect_hash(skb, &sockets, &peer, 0) == SK_PASS) {
		count->redirected += length;
		count->since++;
	} else {
		count->passed += length;
	}
	return SK_PASS;
}

/* The kernel lets only such programs read its structures. */
char licence[] SEC("license") = "Dual MIT/GPL";
