/*
 * Traced-write coherence. Processors that run at the same time write page tables, record their
 * writes, drain each other's records, and use translations from one shared shadow.
 *
 * One virtual address v is looked at. The guest's walk for it is
 *
 *     root table: entry `parent`  →  table T: entry `entry`  →  page A or page B
 *
 * T is linked at a second place, too, which never changes and through which an address u is seen:
 * so T's shadow page may be filled while nothing links to it for v. The guest writes T through an
 * alias. The root is traced always.
 *
 * What must hold: `use` (a translation that is used could have come from a translation cache that
 * obeys the architecture), `inject` (a page fault that the guest sees is one that its tables asked
 * for), `noRecordIsLost`, and that no processor waits for ever.
 *
 * README.md explains the rules, and maps the steps (`step X1`) to the program. Flags:
 *
 *     -DN=2|3               processors
 *     -DCAPACITY=1|2        records in each guest write buffer; 2 with two processors only
 *     -DWRITERS=n, -DUSERS=n
 *                           only the first n processors write, only the last n do the rest; without
 *                           it every processor does everything
 *     -DTURNS               one host thread: instructions and the hypervisor take turns
 *     -DWITHOUT_RULE_n      leaves a rule out
 *     -DNO_RECLAIM, -DNO_UNMAP, -DNO_DEVICE
 *                           leave out one thing that the hypervisor does
 */
#ifndef N
#define N 2
#endif
#ifndef CAPACITY
#define CAPACITY 1
#endif
#ifndef WRITERS
#define WRITERS N
#endif
#ifndef USERS
#define USERS N
#endif
#define writes(p) (p < WRITERS)
#define uses(p) (p >= N - USERS)

#include "rules.h"

/* Guest entries, as records name them. */
#define NONE 0
#define ENTRY 1
#define PARENT 2

/* What `entry` names: A (1) or B (2). What T's shadow page holds at its place: NONE, A, B, or
   FOREIGN, where the page is not T's. */
#define FOREIGN 3

/* A shadow leaf through which T is written. */
#define PLAIN 1
#define TRACED 2

/* Why a processor is in the hypervisor. */
#define NOTHING 0
#define OPERATION 1      /* INVLPG, or another coherency-inducing operation */
#define BUFFER 2         /* the buffer is full, or at its threshold */
#define FAULT 3          /* at v */
#define FAULT_BESIDE 4   /* at u */
#define FAULT_ALIAS 5    /* at the alias */
#define RECLAIM 6        /* T's shadow page is wanted for something else */
#define UNMAP 7          /* the alias's leaf is dropped */
#define DEVICE 8         /* a device, an emulator or the hypervisor itself writes T */

/* --- Guest memory --- */
bit parent = 1;              /* present: names T */
byte entry = 1;

/* --- The shadow, and what the hypervisor knows --- */
bit link;                    /* the shadow's `parent` links to T's shadow page */
byte leaf = FOREIGN;         /* the shadow's `entry` */
bit traced;                  /* T has a shadow page, and is traced */
byte alias;                  /* the leaf through which T is written */
byte lock;                   /* 0, or the processor in the hypervisor, from 1 */
#if FAULTS_ARE_JUDGED_AFRESH == 0
bit absent;                  /* remembered: `parent` was not present */
#endif

/* --- The processors --- */
bit between[N] = 1;          /* between two instructions */
bit cachedLink[N];           /* paging-structure cache: the link */
byte cachedAlias[N];         /* translation cache: the alias */
byte used[N];                /* guest write buffer: how many records … */
byte record[N * CAPACITY];   /* … and which entries they name */
byte recent[N];              /* the record that coalescing compares with */

/* --- What the architecture allows; nothing above depends on it ---
   A processor's window begins with its last operation. A walk reads the parent, or has it cached,
   and then the entry: lawful is an entry's value at a moment at which the parent is or was present
   in the window. Translations of v that are cached whole are not modelled: such a one is as lawful
   at each use as when it was made, until the processor's own operation, which drops it. */
bit mayLink[N] = 1;          /* `parent` was present in the window */
byte mayUse[N] = 2;          /* bits 1 << A, 1 << B: the entry had the value then or later */
bit accessing[N];
bit mayFault[N];             /* `parent` was absent since the access began */
hidden byte g;

/* step G1: guest memory has changed. */
inline observe() {
    g = 0;
    do
    :: g < N && !uses(g) -> g++
    :: g < N && uses(g) ->
        mayLink[g] = mayLink[g] | parent;
        mayUse[g] = mayUse[g] | (mayLink[g] << entry);
        mayFault[g] = mayFault[g] | (accessing[g] & !parent);
        g++
    :: g == N -> break
    od
}

#define use(value) assert(value != FOREIGN && (mayUse[p] & (1 << value)))
#define inject() assert(mayFault[p])

#if N * CAPACITY == 2
#define waits(e) (record[0] == e || record[1] == e)
#elif N * CAPACITY == 3
#define waits(e) (record[0] == e || record[1] == e || record[2] == e)
#else
#define waits(e) (record[0] == e || record[1] == e || record[2] == e || record[3] == e)
#endif
#ifdef ONLY_USES
#define noRecordIsLost() skip
#else
#define noRecordIsLost() \
    assert(!traced || leaf == NONE || leaf == entry || waits(ENTRY)); \
    assert(!link || parent || waits(PARENT))
#endif

/* --- Whose turn it is --- */
#ifdef TURNS
#define begin() lock == 0; lock = p + 1; between[p] = 0
#define end() between[p] = 1; accessing[p] = 0; mayFault[p] = 0; lock = 0; goto next
#define leave(reason) between[p] = 1; why = reason; goto exit
#define enter() lock == p + 1
#else
#define begin() between[p] = 0
#define end() between[p] = 1; accessing[p] = 0; mayFault[p] = 0; goto next
#define leave(reason) between[p] = 1; why = reason; goto exit
#define enter() lock == 0 || !ONE_HANDLER_AT_A_TIME; lock = p + 1
#endif

/* --- The hardware's steps --- */

#define isFull(p) (used[p] == CAPACITY && ROOM_IS_MADE_BEFORE_A_WRITE)

/* step R2: the record, unless one like it waits. Its place is filled before it counts. */
inline append(what) {
    if
    :: atomic { recent[p] == what -> skip }
#if RECORDS_ARE_WRITTEN_BEFORE_COUNTED
    :: atomic { used[p] < CAPACITY ->
            record[p * CAPACITY + used[p]] = what; used[p]++; recent[p] = what }
#else
    :: atomic { used[p] < CAPACITY -> used[p]++; recent[p] = what };
        atomic {
            if
            :: used[p] > 0 -> record[p * CAPACITY + used[p] - 1] = what
            :: else -> skip     /* it was drained empty */
            fi }
#endif
#if ROOM_IS_MADE_BEFORE_A_WRITE == 0
    :: atomic { used[p] == CAPACITY -> skip }
#endif
    fi
}

/* step R3: the write. */
inline write(what) {
    atomic {
        if
        :: what == ENTRY -> entry = 3 - entry
        :: what == PARENT -> parent = !parent
        fi;
        observe()
    }
}

inline recordAndWrite(what) {
#if RECORDS_PRECEDE_WRITES
    append(what);
    write(what)
#else
    write(what);
    append(what)
#endif
}

/* --- The hypervisor's steps --- */

#define answers(r) (between[r] || !PROCESSORS_ANSWER_BETWEEN_INSTRUCTIONS)

/* steps S1, S2: every processor drops what it has cached, one after the other, each between two of
   its instructions. */
inline shootDownLink() {
    do
    :: atomic { r < N && answers(r) -> cachedLink[r] = 0; r++ }
    :: atomic { r == N -> r = 0; break }
    od
}
inline shootDownAlias() {
    do
    :: atomic { r < N && answers(r) -> cachedAlias[r] = NONE; r++ }
    :: atomic { r == N -> r = 0; break }
    od
}

#if CAPACITY == 1
#define recordsOf(q) (1 << record[q])
#define emptyPlaces(q) record[q] = NONE
#else
#define recordsOf(q) (1 << record[q * 2] | 1 << record[q * 2 + 1])
#define emptyPlaces(q) record[q * 2] = NONE; record[q * 2 + 1] = NONE
#endif

/* step D1: the records, and their places, which the processor may use again. */
inline take() {
#if ONLY_WAITING_RECORDS_COALESCE
    recent[q] = NONE;
#endif
#if PLACES_ARE_READ_BEFORE_FREED
    taken = recordsOf(q);
    emptyPlaces(q);
#endif
    used[q] = 0
}

/* step D3: the shadow of what the records name, read now. Nothing becomes present. */
inline apply() {
    if
    :: traced && (taken & (1 << ENTRY)) && leaf != value -> leaf = NONE
    :: else -> skip
    fi;
    if
    :: link && (taken & (1 << PARENT)) && (!present || RECORDED_LINKS_GO) ->
        link = 0;
        unlinked = REMOVED_LINKS_ARE_SHOT_DOWN
    :: else -> skip
    fi;
#if FAULTS_ARE_JUDGED_AFRESH == 0
    if
    :: taken & (1 << PARENT) -> absent = 0
    :: else -> skip
    fi;
#endif
    taken = 0; value = 0; present = 0
}

#define finish() \
    noRecordIsLost(); \
    why = NOTHING; seen = 0; unlinked = 0; value = 0; \
    accessing[p] = 0; mayFault[p] = 0; \
    lock = 0; \
    goto next

proctype Processor(byte p) {
    byte why, q, r, taken, value;
    bit present, seen, unlinked;

next:
    if
    /* The guest writes T. step R1: translation, and room for the record. */
    :: atomic {
            writes(p);
            begin();
            if
            :: cachedAlias[p] == NONE && alias == NONE -> leave(FAULT_ALIAS)
            :: alias != NONE -> cachedAlias[p] = alias
            :: cachedAlias[p] != NONE -> skip
            fi;
            if
            :: cachedAlias[p] == PLAIN -> goto plain
            :: cachedAlias[p] == TRACED && isFull(p) -> leave(BUFFER)
            :: cachedAlias[p] == TRACED && !isFull(p) -> skip
            fi };
        recordAndWrite(ENTRY);
        goto written
    /* The guest writes the root. */
    :: atomic {
            writes(p);
            begin();
            if
            :: isFull(p) -> leave(BUFFER)
            :: else -> skip
            fi };
        recordAndWrite(PARENT);
        goto written
    /* The guest uses v. step U1: the walk reads the link; step U2: the leaf. */
    :: atomic {
            uses(p);
            begin();
            accessing[p] = 1;
            mayFault[p] = !parent;
            if
            :: cachedLink[p] -> skip
            :: link -> cachedLink[p] = 1
            :: !cachedLink[p] && !link -> leave(FAULT)
            fi };
        atomic {
            if
            :: leaf == NONE -> leave(FAULT)
            :: else -> use(leaf); end()
            fi }
    /* INVLPG. step O1: the window begins, what the processor has cached goes, and it exits. */
    :: atomic {
            uses(p);
            begin();
            mayLink[p] = parent;
            mayUse[p] = parent << entry;
            cachedLink[p] = 0;
            if
            :: OPERATIONS_DRAIN -> leave(OPERATION)
            :: else -> end()
            fi }
    /* Other reasons to be in the hypervisor. */
    :: atomic { uses(p); begin(); leave(FAULT_BESIDE) }
#ifndef NO_RECLAIM
    :: atomic { uses(p) && traced; begin(); leave(RECLAIM) }
#endif
#ifndef NO_UNMAP
    :: atomic { writes(p) && alias != NONE; begin(); leave(UNMAP) }
#endif
#ifndef NO_DEVICE
    :: atomic { uses(p); begin(); leave(DEVICE) }
#endif
    fi;

plain:
    write(ENTRY);
written:
    /* step R4: the threshold, wherever it is. */
    atomic {
        if
        :: used[p] > 0 -> leave(BUFFER)
        :: end()
        fi };

exit:
    /* step L1: one processor at a time. */
    atomic {
        enter();
        seen = parent;
        if
        :: why == RECLAIM -> goto reclaim
        :: why == UNMAP -> goto unmap
        :: why == DEVICE -> goto device
#if FAULTS_DRAIN == 0
        :: why == FAULT || why == FAULT_BESIDE || why == FAULT_ALIAS -> goto drained
#endif
#if FAULTS_ARE_JUDGED_AFRESH == 0
        :: why == FAULT && absent -> inject(); finish()
#endif
        :: else -> skip
        fi };

    /* The drain: of every processor's buffer. */
    do
    :: atomic { q < N && (used[q] == 0 || (q != p && !EVERY_RING_IS_DRAINED)) -> q++ }
    :: atomic { q < N && used[q] > 0 && (q == p || EVERY_RING_IS_DRAINED) ->
#if RECORDS_ARE_TAKEN_BEFORE_ENTRIES_ARE_READ == 0
            value = entry; present = parent
        };
        atomic {
#endif
            take() };
#if PLACES_ARE_READ_BEFORE_FREED == 0
        atomic { taken = recordsOf(q); if :: used[q] == 0 -> emptyPlaces(q) :: else -> skip fi };
#endif
        /* step D2: until the writes that the records tell of are made. */
        atomic { between[q] || !WRITES_UNDER_WAY_ARE_AWAITED ->
#if RECORDS_ARE_TAKEN_BEFORE_ENTRIES_ARE_READ
            value = entry; present = parent;
#endif
            apply(); q++ }
    :: atomic { q == N -> q = 0; break }
    od;
    if
    :: atomic { unlinked -> unlinked = 0 };
        shootDownLink()
    :: atomic { !unlinked -> skip }
    fi;
#if FAULTS_DRAIN == 0
drained:
#endif
    atomic {
        if
        :: why == OPERATION || why == BUFFER -> finish()
        :: why == FAULT_ALIAS ->
            /* step T3: the leaf of a traced frame has T. */
            alias = (traced && LEAVES_OF_TRACED_FRAMES_HAVE_T -> TRACED : PLAIN);
            finish()
        :: why == FAULT && !parent ->
            /* step F1: by the guest's tables as they are now. */
#if FAULTS_ARE_JUDGED_AFRESH == 0
            absent = 1;
#endif
            inject();
            finish()
        /* step F2: a parent that is new since the drain: the access faults again, and drains. */
        :: why == FAULT && parent && !link && !seen && PARENTS_ARE_SEEN_BEFORE_THE_DRAIN -> finish()
        :: else -> skip
        fi;
        /* step T1: T gets a shadow page, and every leaf that maps it T. */
        value = entry;
        if
        :: traced -> goto isTraced
        :: else -> skip
        fi;
        traced = 1;
#if PAGES_ARE_EMPTY_BEFORE_LINKED
        leaf = NONE;
#endif
        if
        :: alias == NONE -> goto isTraced
        :: else -> alias = TRACED
        fi };
    /* step T2: nobody has an untraced translation of T any more. */
#if CACHES_ARE_SHOT_DOWN_BEFORE_TRACING
    shootDownAlias();
#endif
isTraced:
    /* step F3: the link. */
    atomic {
        if
        :: why == FAULT && !parent -> finish()
        :: why == FAULT && parent -> link = 1
        :: why == FAULT_BESIDE -> skip
        fi };
    /* step F4: the entry. */
#if ENTRIES_ARE_READ_ONCE_TRACED
    atomic { value = entry };
#endif
    atomic {
        if
        :: leaf = value
        :: why == FAULT -> skip     /* the access was to v's neighbour, under the same link */
        fi;
        finish() };

reclaim:
    /* step P1: nobody links to the page; step P2: it is used for something else. */
    atomic {
        if
        :: !traced -> finish()
        :: traced && !link -> skip
        :: traced && link -> link = 0; unlinked = REMOVED_LINKS_ARE_SHOT_DOWN
        fi };
    if
    :: atomic { unlinked -> unlinked = 0 };
        shootDownLink()
    :: atomic { !unlinked -> skip }
    fi;
    atomic {
        leaf = FOREIGN;
        traced = 0;
        if
        :: alias == TRACED -> alias = PLAIN
        :: else -> skip
        fi;
        finish() };

unmap:
    /* step S3: what the shadow does not say, nobody has cached. */
    atomic { alias = NONE };
#if REMOVED_LEAVES_ARE_SHOT_DOWN
    shootDownAlias();
#endif
    atomic { finish() };

device:
    /* step W1: what no processor records, its writer applies. */
    atomic { entry = 3 - entry; observe() };
    atomic {
        if
        :: UNRECORDED_WRITES_ARE_APPLIED && traced && leaf != entry -> leaf = NONE
        :: else -> skip
        fi;
        finish() }
}

init {
    atomic {
        run Processor(0);
        run Processor(1);
#if N > 2
        run Processor(2);
#endif
    }
}
