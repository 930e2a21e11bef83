//! Planted mistakes. Each leaves out or bends one rule, and must be found.

use super::super::properties::{AGREEMENT, BOTH_COMMIT, EXCLUSIVITY, NO_REJECT, ONE_OWNER, ORDER, RECOVERY};
use super::super::rules::{
    Adoption, AfterPromise, Bases, CheckHold, Closed, ClosingCommits, ClosingList, ClosingPromises,
    ConflictsFirst, FastAbort, FenceReport, FenceView, FirstWrite, Gap, Grants, Memory, OlderClosings,
    OwnBallot, Reserve, Rules, SecondRound, Unforced, UntoldPromises,
};
use super::super::run::{Bound, Case, Expect, Subject, Tier};
use super::super::setup::{Proposer, Setup, Sizes, TxnSpec};
use super::super::streams::{Acknowledge, Apply, CAUSAL, Cover, PREFIX, StreamRules};
use super::{
    X, Y, chain, checker_and_writer, fencer, four_nodes, multi_master, reader_of, rivals, single_master,
    takeover, two_takeovers, txn, voting,
};

pub(super) fn all() -> Vec<Case> {
    let mut cases = votes();
    cases.extend(ballots());
    cases.extend(checks());
    cases.extend(fences());
    cases.extend(folding());
    cases.extend(streams());
    cases
}

fn found(name: &'static str, setup: Setup, rules: Rules, properties: &[&'static str]) -> Case {
    // Those that are found take two seconds at most.
    voting(name, Tier::Quick, setup, rules, Bound::Seconds(20), Expect::Breaks(properties.to_vec()))
}

fn shipped() -> Rules {
    Rules::default()
}

/// Plain Fast Paxos, one transaction at a time: C1.
fn plain_fast_paxos() -> Rules {
    Rules {
        second_round: SecondRound::Nothing,
        conflicts_first: ConflictsFirst::Never,
        reserve: Reserve::Never,
        ..shipped()
    }
}

fn votes() -> Vec<Case> {
    let rivals_of_four = || Setup::new(four_nodes(), rivals()).coordinated().recoverers(&[1, 1]);
    let split = Setup::new(multi_master(6), rivals())
        .recoverers(&[1, 1])
        .from(&["AR AR AR RA RA RA"])
        .without_recovery();
    let five = Setup::new(Sizes::other(5, 3, 4), rivals()).coordinated().recoverers(&[1, 1]);
    let rivals_of_six = Setup::new(multi_master(6), rivals()).coordinated().recoverers(&[1, 1]);
    let never = ConflictsFirst::Never;
    let unreserved = Reserve::Never;
    let one_too_few = Rules { fast_abort: FastAbort::OneTooFew, ..shipped() };
    let lagging =
        Setup::new(multi_master(3), chain()).coordinated().recoverers(&[1, 1]).last_never_rejected();
    vec![
        found("C1 plain Fast Paxos, N=6 from 3-3", split, plain_fast_paxos(), &[EXCLUSIVITY]),
        found(
            "C2 no conflict-first, no reserve, N=4",
            rivals_of_four(),
            Rules { conflicts_first: never, reserve: unreserved, ..shipped() },
            &[RECOVERY],
        ),
        found(
            "C2 no conflict-first, N=4",
            rivals_of_four(),
            Rules { conflicts_first: never, ..shipped() },
            &[RECOVERY],
        ),
        found(
            "C2 no reserve, N=4",
            rivals_of_four(),
            Rules { reserve: unreserved, ..shipped() },
            &[RECOVERY],
        ),
        found("C3 N=5, Q=3, F=4", five, shipped(), &[RECOVERY]),
        found("C4 X one too low, N=4", rivals_of_four(), one_too_few, &[RECOVERY, AGREEMENT]),
        found("C4 X one too low, N=6", rivals_of_six, one_too_few, &[RECOVERY, AGREEMENT]),
        found(
            "C5 a lagging node rejects, N=3",
            lagging,
            Rules { bases: Bases::Rejected, ..shipped() },
            &[NO_REJECT],
        ),
    ]
}

fn ballots() -> Vec<Case> {
    let rivals_of_three = || Setup::new(multi_master(3), rivals()).coordinated().recoverers(&[1, 1]);
    let unfenced = Setup::new(single_master(3), rivals()).recoverers(&[1, 1]);
    vec![
        found(
            "C6 forgotten once decided, N=3",
            rivals_of_three(),
            Rules { memory: Memory::NothingOnceDecided, ..shipped() },
            &[RECOVERY, AGREEMENT],
        ),
        found(
            "C6 forgotten once all know, N=3",
            rivals_of_three(),
            Rules { memory: Memory::NothingOnceAllKnow, ..shipped() },
            &[RECOVERY, AGREEMENT],
        ),
        found("C7 two unfenced single-master writers, N=3", unfenced, shipped(), &[RECOVERY]),
        found(
            "C8 ballot 1 used for a guess, N=3",
            rivals_of_three(),
            Rules { own_ballot: OwnBallot::Guessed, ..shipped() },
            &[AGREEMENT, RECOVERY],
        ),
        found(
            "C9 recoverer chooses COMMIT freely, N=3",
            rivals_of_three(),
            Rules { unforced: Unforced::Either, ..shipped() },
            &[AGREEMENT, RECOVERY],
        ),
        found(
            "C9 fast vote after a promise, N=3",
            rivals_of_three(),
            Rules { after_promise: AfterPromise::FastVote, ..shipped() },
            &[AGREEMENT, RECOVERY],
        ),
    ]
}

/// Part one's rules for checks: the second round and conflict-first see them (K1).
fn checks_like_writes() -> Rules {
    Rules {
        second_round: SecondRound::WritesAndChecks,
        conflicts_first: ConflictsFirst::OfWritesAndChecks,
        ..shipped()
    }
}

fn checks() -> Vec<Case> {
    let pair = |sizes: Sizes| Setup::new(sizes, checker_and_writer()).coordinated().recoverers(&[1, 1]);
    let one_writer = || {
        let txns: Vec<TxnSpec> = vec![txn().check(X).write(Y), txn().write(X).after_chosen(&[0])];
        Setup::new(single_master(3), txns).recoverers(&[1, 1])
    };
    let widely = Rules { check_hold: CheckHold::UntilQuorumKnows, ..checks_like_writes() };
    let mut witness =
        found("K3 checker and writer both commit (legal), N=3", pair(multi_master(3)), shipped(), &[]);
    witness.expect = Expect::Holds(vec![BOTH_COMMIT]);
    witness.bound = Bound::Depth(14);
    vec![
        found(
            "K1 checks tested in the second round, N=3",
            pair(multi_master(3)),
            checks_like_writes(),
            &[RECOVERY],
        ),
        found(
            "K1 checks tested in the second round, N=4",
            pair(four_nodes()),
            checks_like_writes(),
            &[RECOVERY],
        ),
        found(
            "K2 conflict-first over checks too, N=4",
            pair(four_nodes()),
            Rules { conflicts_first: ConflictsFirst::OfWritesAndChecks, ..shipped() },
            &[RECOVERY],
        ),
        witness,
        found("K4 check held until a quorum knows, single-master", one_writer(), widely, &[RECOVERY]),
        found(
            "K1 checks in the second round, single-master",
            one_writer(),
            checks_like_writes(),
            &[RECOVERY],
        ),
    ]
}

fn fences() -> Vec<Case> {
    let race = || takeover(1, &[fencer(2, 1), fencer(3, 2)]);
    let read_race = || takeover(1, &[fencer(2, 1), reader_of(0), fencer(3, 2)]);
    let same_epoch = || takeover(1, &[fencer(2, 1), fencer(2, 2)]);
    let again = || takeover(1, &[fencer(2, 1), fencer(2, 1)]);
    let read_after = || takeover(1, &[fencer(2, 1), reader_of(0)]);
    let two_old = || takeover(2, &[fencer(2, 1), reader_of(0)]);
    let harm = &[AGREEMENT, EXCLUSIVITY, RECOVERY];
    // That a fencer asks again is a second line of defence against w1, w6 and w7: all are looked at without it.
    let first = Rules { untold_promises: UntoldPromises::Counted, ..shipped() };
    let own_records = Rules { fence_report: FenceReport::OwnRecordsOnly, ..first };
    let by_one = Rules { closed: Closed::ByOneNode, ..first };
    let ignored = Rules { closing_promises: ClosingPromises::Ignored, ..first };
    let too_early = Rules { first_write: FirstWrite::AfterSending, ..first };
    let unseen_commit = Rules { closing_commits: ClosingCommits::Ignored, ..first };
    let last_only = Rules { closing_commits: ClosingCommits::LastSettledOnly, ..shipped() };
    let forgetful = Rules { older_closings: OlderClosings::Dropped, ..shipped() };
    let two_views = Rules { fence_view: FenceView::Two, ..first };
    let commits_only = Rules { closing_list: ClosingList::CommitsOnly, ..first };
    let shared = Rules { grants: Grants::Shared, ..shipped() };
    vec![
        found("w1 fence reports own records only, epochs 2 and 3", race(), own_records, harm),
        found("w1 fence reports own records only, one run twice", again(), own_records, harm),
        found("w2 closed after one node's accept", race(), by_one, harm),
        found("w3 closing ignores a higher promise", read_race(), ignored, harm),
        found("w4 owner writes before its closing is chosen", race(), too_early, harm),
        found("w5 closing ignores commits", read_race(), unseen_commit, harm),
        found("w5 closing looks at the last settled one only", two_old(), last_only, harm),
        found("two takeovers, the second forgets the first one's aborts", two_takeovers(), forgetful, harm),
        found("w6 closing from a second view", race(), two_views, harm),
        found("w7 closing does not list what it aborted", read_after(), commits_only, harm),
        found("two runs are granted one epoch", same_epoch(), shared, &[ONE_OWNER]),
        found(
            "a fencer counts nodes that it never told, N=6",
            multi_master_fence(&[fencer(2, 1)]),
            first,
            &[RECOVERY],
        ),
    ]
}

/// Seat 0's writer died with its transaction on three nodes; seat 1's rival still comes to the others.
pub(super) fn multi_master_fence(proposers: &[Proposer]) -> Setup {
    let txns = vec![txn().write(X).stream(0, 1), txn().write(X).stream(1, 1)];
    Setup::new(multi_master(6), txns).proposers(proposers).from(&["AR AR AR -- -- --"])
}

fn folding() -> Vec<Case> {
    let unknown = || Setup::new(multi_master(3), rivals()).recoverers(&[1, 1]).recovering_unknown();
    vec![
        found(
            "G1 gap folded as aborted on silence, N=3",
            unknown(),
            Rules { gap: Gap::AbortedOnSilence, ..shipped() },
            &[AGREEMENT, EXCLUSIVITY, RECOVERY],
        ),
        found(
            "G2 decision taken over without applying, N=3",
            unknown(),
            Rules { adoption: Adoption::ReleasesOnly, ..shipped() },
            &[EXCLUSIVITY, RECOVERY, ORDER],
        ),
        found(
            "G3 forgotten once decided, recovering unknown, N=3",
            unknown(),
            Rules { memory: Memory::NothingOnceDecided, ..shipped() },
            &[AGREEMENT, RECOVERY],
        ),
        found(
            "G3 forgotten once all know, recovering unknown, N=3",
            unknown(),
            Rules { memory: Memory::NothingOnceAllKnow, ..shipped() },
            &[AGREEMENT, RECOVERY],
        ),
    ]
}

fn streams() -> Vec<Case> {
    let found = |name, rules, property| Case {
        name,
        tier: Tier::Quick,
        subject: Subject::Streams(rules),
        bound: Bound::Exhaustive,
        expect: Expect::Breaks(vec![property]),
    };
    let shipped = StreamRules::default();
    vec![
        found(
            "S1 vector without reads of the present",
            StreamRules { cover: Cover::SnapshotOnly, ..shipped },
            CAUSAL,
        ),
        found(
            "S2 applied in order of the stream only",
            StreamRules { apply: Apply::InOrderOnly, ..shipped },
            CAUSAL,
        ),
        found(
            "S3 acknowledged before the prefix is decided",
            StreamRules { acknowledge: Acknowledge::Decided, ..shipped },
            PREFIX,
        ),
    ]
}
