//! The rules that ship. Nothing may be found, and the witnesses must be reachable.

use super::super::properties::{
    ALL_ABORTED, ALL_COMMITTED, ALL_DECIDED, BOTH_COMMIT, FAST_COMMIT, RECOVERED_COMMIT, SUCCEEDED,
    TAKEN_OVER,
};
use super::super::rules::{Bases, Rules, UntoldPromises};
use super::super::run::{Bound, Case, Expect, Subject, Tier};
use super::super::setup::{Base, Proposer, Setup, Sizes};
use super::super::streams::{LONG_FORK, OVERTAKEN, StreamRules};
use super::mistakes::multi_master_fence;
use super::{
    X, Y, Z, chain, checker_and_writer, fencer, four_nodes, multi_master, reader_of, rivals, single_master,
    takeover, two_takeovers, txn, voting, write_skew,
};

use Bound::{Depth, Exhaustive, Seconds};
use Tier::{Full, Quick, Standard};

pub(super) fn all() -> Vec<Case> {
    let mut cases = writes();
    cases.extend(six_nodes());
    cases.extend(checks());
    cases.extend(fences());
    cases.extend(folding());
    cases.push(Case {
        name: "two streams, two subscribers",
        tier: Standard,
        subject: Subject::Streams(StreamRules::default()),
        bound: Exhaustive,
        expect: Expect::Holds(vec![LONG_FORK, OVERTAKEN]),
    });
    cases
}

fn holds(name: &'static str, tier: Tier, setup: Setup, bound: Bound, witnesses: &[&'static str]) -> Case {
    voting(name, tier, setup, Rules::default(), bound, Expect::Holds(witnesses.to_vec()))
}

const USUAL: &[&str] = &[FAST_COMMIT, RECOVERED_COMMIT, ALL_ABORTED, ALL_DECIDED];
const RECOVERED: &[&str] = &[RECOVERED_COMMIT, ALL_ABORTED, ALL_DECIDED];

fn writes() -> Vec<Case> {
    let three = |txns| Setup::new(multi_master(3), txns);
    let four = |txns| Setup::new(four_nodes(), txns);
    let two_keys = || vec![txn().write(X).write(Y), txn().write(Y)];
    let third = || vec![txn().write(X), txn().write(X), txn().write_on(X, Base::Of(0))];
    let across = || vec![txn().write(X).write(Y), txn().write(X), txn().write(Y)];
    let after = || vec![txn().write(X).write(Y), txn().write_on(X, Base::Of(0)), txn().write(Y)];
    vec![
        holds(
            "N=3 rivals, a recoverer each",
            Standard,
            three(rivals()).recoverers(&[1, 1]),
            Exhaustive,
            USUAL,
        ),
        holds(
            "N=3 rivals, writers, a recoverer each",
            Standard,
            three(rivals()).coordinated().recoverers(&[1, 1]),
            Exhaustive,
            USUAL,
        ),
        holds(
            "N=3 rivals, a writer, recoverers race on T1",
            Standard,
            three(vec![txn().write(X).coordinated(), txn().write(X)]).recoverers(&[2, 0]),
            Exhaustive,
            USUAL,
        ),
        holds(
            "N=3 rivals, recoverers race on both",
            Full,
            three(rivals()).recoverers(&[2, 2]),
            Seconds(120),
            USUAL,
        ),
        holds(
            "N=3 rivals, writers, recoverers race",
            Full,
            three(rivals()).coordinated().recoverers(&[2, 1]),
            Seconds(120),
            USUAL,
        ),
        holds(
            "N=3 chain T1->T2, T2 never rejected",
            Quick,
            three(chain()).coordinated().recoverers(&[1, 1]).last_never_rejected(),
            Exhaustive,
            &[FAST_COMMIT, RECOVERED_COMMIT, ALL_COMMITTED],
        ),
        holds(
            "N=3 two keys T1{x,y} T2{y}",
            Standard,
            three(two_keys()).coordinated().recoverers(&[1, 1]),
            Depth(17),
            USUAL,
        ),
        holds(
            "N=3 two keys T1{x,y} T2{y}, to the end",
            Full,
            three(two_keys()).coordinated().recoverers(&[1, 1]),
            Exhaustive,
            USUAL,
        ),
        holds(
            "N=3 rivals, T3 on T1",
            Full,
            three(third()).coordinated().recoverers(&[1, 1, 1]),
            Seconds(120),
            &[FAST_COMMIT],
        ),
        holds(
            "N=3 T1{x,y} T2{x} T3{y}",
            Full,
            three(across()).coordinated().recoverers(&[1, 1, 1]),
            Seconds(120),
            &[FAST_COMMIT],
        ),
        holds(
            "N=3 T1{x,y} T2{x} on T1, T3{y} stale",
            Full,
            three(after()).coordinated().recoverers(&[1, 1, 1]),
            Seconds(120),
            &[FAST_COMMIT],
        ),
        holds("N=4 rivals, a recoverer each", Full, four(rivals()).recoverers(&[1, 1]), Exhaustive, USUAL),
        holds(
            "N=4 rivals, recoverers race on T1",
            Full,
            four(rivals()).coordinated().recoverers(&[2, 0]),
            Exhaustive,
            USUAL,
        ),
        holds("N=4 two keys T1{x,y} T2{y}", Full, four(two_keys()).recoverers(&[1, 1]), Exhaustive, USUAL),
        holds(
            "N=5 Q=3 F=5, rivals",
            Full,
            Setup::new(Sizes::other(5, 3, 5), rivals()).coordinated().recoverers(&[1, 1]),
            Seconds(100),
            &[FAST_COMMIT],
        ),
        holds(
            "N=3 single-master, T2 after T1 is aborted",
            Quick,
            Setup::new(single_master(3), vec![txn().write(X), txn().write(X).after_abort(&[0])])
                .coordinated()
                .recoverers(&[1, 1]),
            Exhaustive,
            USUAL,
        ),
    ]
}

fn six_nodes() -> Vec<Case> {
    let six = |txns| Setup::new(multi_master(6), txns);
    let splits = &["AR AR AR RA RA RA", "AR AR AR AR RA RA", "AR AR AR AR AR RA", "AR AR AR AR AR AR"];
    let open = &["AR AR AR RA RA --", "AR AR AR RA -- --", "AR AR AR -- -- --", "AR AR RA RA -- --"];
    vec![
        holds(
            "N=6 rivals from 3-3",
            Quick,
            six(rivals()).recoverers(&[1, 1]).from(&splits[..1]),
            Exhaustive,
            RECOVERED,
        ),
        holds(
            "N=6 rivals from 3-3, recoverers race",
            Standard,
            six(rivals()).recoverers(&[2, 2]).from(&splits[..1]),
            Depth(13),
            &[],
        ),
        holds(
            "N=6 rivals from 3-3, 4-2, 5-1, 6-0, writers",
            Standard,
            six(rivals()).coordinated().recoverers(&[1, 1]).from(splits),
            Depth(10),
            &[FAST_COMMIT],
        ),
        holds(
            "N=6 rivals, votes still arriving",
            Standard,
            six(rivals()).recoverers(&[1, 1]).from(open),
            Depth(11),
            &[],
        ),
        holds(
            "N=6 rivals from 3-3, recoverers race, deeper",
            Full,
            six(rivals()).recoverers(&[2, 2]).from(&splits[..1]),
            Seconds(120),
            RECOVERED,
        ),
        holds(
            "N=6 rivals from splits, writers, deeper",
            Full,
            six(rivals()).coordinated().recoverers(&[1, 1]).from(splits),
            Seconds(120),
            USUAL,
        ),
        holds(
            "N=6 rivals, votes still arriving, deeper",
            Full,
            six(rivals()).coordinated().recoverers(&[1, 1]).from(open),
            Seconds(120),
            &[RECOVERED_COMMIT],
        ),
        holds(
            "N=6 chain",
            Full,
            six(chain()).coordinated().recoverers(&[1, 1]).last_never_rejected(),
            Seconds(60),
            &[FAST_COMMIT],
        ),
        holds(
            "N=6 single-master, T2 after T1 is aborted",
            Full,
            Setup::new(single_master(6), vec![txn().write(X), txn().write(X).after_abort(&[0])])
                .coordinated()
                .recoverers(&[1, 1]),
            Seconds(60),
            &[FAST_COMMIT],
        ),
        holds(
            "N=6 T1{x,y} T2{x} T3{y} from a split",
            Full,
            six(vec![txn().write(X).write(Y), txn().write(X), txn().write(Y)])
                .coordinated()
                .recoverers(&[1, 1, 1])
                .from(&["ARR ARR ARR RAA RAA RAA"]),
            Seconds(60),
            &[],
        ),
    ]
}

fn checks() -> Vec<Case> {
    let three = |txns| Setup::new(multi_master(3), txns);
    let readers = || vec![txn().check(X).write(Y), txn().check(X).write(Z)];
    let on_base = || vec![txn().write(X), txn().check_on(X, Base::Of(0)).write(Y)];
    let cycle = || vec![txn().check(X).write(Y), txn().check(Y).write(Z), txn().check(Z).write(X)];
    let path = || vec![txn().check(X).write(Y), txn().write(X), txn().check(Y).write(Z)];
    let two_and_writer = || vec![txn().check(X).write(Y), txn().check(X).write(Z), txn().write(X)];
    let one_writer = vec![txn().check(X).write(Y), txn().write(X).after_chosen(&[0])];
    let splits = &["AR AR AR AR RA RA", "AR AR AR RA RA RA"];
    let of_writes = Rules { bases: Bases::LearntOfWrites, ..Rules::default() };
    vec![
        holds(
            "N=3 check against write, a recoverer each",
            Standard,
            three(checker_and_writer()).recoverers(&[1, 1]),
            Exhaustive,
            &[BOTH_COMMIT],
        ),
        holds(
            "N=3 check against write, a writer",
            Standard,
            Setup::new(multi_master(3), vec![txn().check(X).write(Y).coordinated(), txn().write(X)])
                .recoverers(&[1, 1]),
            Exhaustive,
            &[BOTH_COMMIT],
        ),
        holds(
            "N=3 check against write, writers and recoverers",
            Full,
            three(checker_and_writer()).coordinated().recoverers(&[1, 1]),
            Exhaustive,
            &[BOTH_COMMIT],
        ),
        holds(
            "N=3 check against write, recoverers race on T1",
            Full,
            three(checker_and_writer()).recoverers(&[2, 1]),
            Exhaustive,
            &[BOTH_COMMIT],
        ),
        holds(
            "N=3 check against write, recoverers race on T2",
            Full,
            three(checker_and_writer()).recoverers(&[1, 2]),
            Exhaustive,
            &[BOTH_COMMIT],
        ),
        holds(
            "N=4 check against write",
            Full,
            Setup::new(four_nodes(), checker_and_writer()).recoverers(&[1, 1]),
            Exhaustive,
            &[BOTH_COMMIT],
        ),
        holds(
            "N=6 check against write, from four nodes",
            Full,
            Setup::new(multi_master(6), checker_and_writer())
                .coordinated()
                .recoverers(&[1, 1])
                .from(&["A- A- A- A- -- --"]),
            Depth(13),
            &[RECOVERED_COMMIT],
        ),
        holds(
            "N=6 check against write, from splits",
            Standard,
            Setup::new(multi_master(6), checker_and_writer()).coordinated().recoverers(&[1, 1]).from(splits),
            Depth(11),
            &[],
        ),
        holds(
            "N=3 write skew",
            Full,
            three(write_skew()).coordinated().recoverers(&[1, 1]),
            Exhaustive,
            USUAL,
        ),
        holds(
            "N=3 write skew, a recoverer each",
            Standard,
            three(write_skew()).recoverers(&[1, 1]),
            Exhaustive,
            USUAL,
        ),
        holds(
            "N=6 write skew, from 3-3",
            Standard,
            Setup::new(multi_master(6), write_skew()).recoverers(&[1, 1]).from(&splits[1..]),
            Exhaustive,
            RECOVERED,
        ),
        holds(
            "N=3 two checkers of one key",
            Standard,
            three(readers()).coordinated().recoverers(&[1, 1]),
            Exhaustive,
            &[ALL_COMMITTED],
        ),
        holds(
            "N=3 T2 checks what T1 wrote, never rejected",
            Standard,
            three(on_base()).coordinated().recoverers(&[1, 1]).last_never_rejected(),
            Exhaustive,
            &[ALL_COMMITTED],
        ),
        voting(
            "N=3 the same, bases of checks not learnt",
            Full,
            three(on_base()).coordinated().recoverers(&[1, 1]),
            of_writes,
            Exhaustive,
            Expect::Holds(vec![ALL_COMMITTED]),
        ),
        holds(
            "N=3 two checkers and a writer",
            Full,
            three(two_and_writer()).recoverers(&[1, 1, 1]),
            Depth(13),
            &[BOTH_COMMIT],
        ),
        holds(
            "N=3 three checks in a circle",
            Full,
            three(cycle()).coordinated().recoverers(&[1, 1, 1]),
            Depth(11),
            &[FAST_COMMIT],
        ),
        holds(
            "N=3 path of checks",
            Full,
            three(path()).coordinated().recoverers(&[1, 1, 1]),
            Depth(12),
            &[FAST_COMMIT],
        ),
        holds(
            "N=3 single-master, T1 checks, then T2 writes",
            Standard,
            Setup::new(single_master(3), one_writer).recoverers(&[1, 1]),
            Exhaustive,
            &[BOTH_COMMIT],
        ),
    ]
}

fn fences() -> Vec<Case> {
    let both: &[&str] = &[SUCCEEDED, TAKEN_OVER];
    vec![
        holds(
            "takeover, runs race for one epoch",
            Standard,
            takeover(1, &[fencer(2, 1), fencer(2, 2)]),
            Exhaustive,
            both,
        ),
        holds(
            "takeover, epochs 2 and 3",
            Standard,
            takeover(1, &[fencer(2, 1), fencer(3, 2)]),
            Exhaustive,
            both,
        ),
        holds(
            "takeover, one run tries twice",
            Standard,
            takeover(1, &[fencer(2, 1), fencer(2, 1)]),
            Exhaustive,
            both,
        ),
        holds(
            "takeover, one epoch, reader below",
            Standard,
            takeover(1, &[reader_of(0), fencer(2, 1), fencer(2, 2)]),
            Exhaustive,
            both,
        ),
        holds(
            "takeover, one epoch, reader between",
            Standard,
            takeover(1, &[fencer(2, 1), reader_of(0), fencer(2, 2)]),
            Exhaustive,
            both,
        ),
        holds(
            "takeover, one epoch, reader above",
            Standard,
            takeover(1, &[fencer(2, 1), fencer(2, 2), reader_of(0)]),
            Exhaustive,
            both,
        ),
        holds(
            "takeover, epochs 2 and 3, reader below",
            Full,
            takeover(1, &[reader_of(0), fencer(2, 1), fencer(3, 2)]),
            Exhaustive,
            both,
        ),
        holds(
            "takeover, epochs 2 and 3, reader between",
            Full,
            takeover(1, &[fencer(2, 1), reader_of(0), fencer(3, 2)]),
            Exhaustive,
            both,
        ),
        holds(
            "takeover, one fencer, reader above",
            Standard,
            takeover(1, &[fencer(2, 1), reader_of(0)]),
            Exhaustive,
            both,
        ),
        holds(
            "takeover of two, one fencer, reader above",
            Standard,
            takeover(2, &[fencer(2, 1), reader_of(0)]),
            Depth(18),
            both,
        ),
        holds(
            "takeover of two, one fencer, reader above, to the end",
            Full,
            takeover(2, &[fencer(2, 1), reader_of(0)]),
            Seconds(120),
            both,
        ),
        holds(
            "takeover of two, epochs 2 and 3",
            Full,
            takeover(2, &[fencer(2, 1), fencer(3, 2)]),
            Seconds(120),
            both,
        ),
        holds("two takeovers of two, epochs 2 and 3", Standard, two_takeovers(), Exhaustive, &[TAKEN_OVER]),
        untold("takeover, epochs 2 and 3, untold nodes counted", Standard, &[fencer(2, 1), fencer(3, 2)]),
        untold(
            "takeover, one run tries twice, untold nodes counted",
            Standard,
            &[fencer(2, 1), fencer(2, 1)],
        ),
        untold("takeover, reader above, untold nodes counted", Standard, &[fencer(2, 1), reader_of(0)]),
        untold(
            "takeover, epochs 2 and 3, reader between, untold counted",
            Full,
            &[fencer(2, 1), reader_of(0), fencer(3, 2)],
        ),
        holds(
            "N=6 a dead writer's seat is taken, a rival goes on",
            Standard,
            multi_master_fence(&[fencer(2, 1), reader_of(1)]),
            Depth(11),
            &[],
        ),
        holds(
            "N=6 the same, deeper",
            Full,
            multi_master_fence(&[fencer(2, 1), reader_of(1), reader_of(0)]),
            Seconds(120),
            &[],
        ),
    ]
}

/// In single-master mode no rival can become due to commit, so that a fencer asks again is not needed there:
/// the worlds in which w1 to w7 are planted hold without it.
fn untold(name: &'static str, tier: Tier, proposers: &[Proposer]) -> Case {
    let rules = Rules { untold_promises: UntoldPromises::Counted, ..Rules::default() };
    let witnesses = Expect::Holds(vec![SUCCEEDED, TAKEN_OVER]);
    voting(name, tier, takeover(1, proposers), rules, Exhaustive, witnesses)
}

fn folding() -> Vec<Case> {
    let unknown = |txns| Setup::new(multi_master(3), txns).recovering_unknown();
    vec![
        holds(
            "N=3 rivals, recovering what nobody has",
            Standard,
            unknown(rivals()).recoverers(&[1, 1]),
            Exhaustive,
            USUAL,
        ),
        holds(
            "N=3 rivals, writers, recovering what nobody has",
            Full,
            unknown(rivals()).coordinated().recoverers(&[1, 0]),
            Exhaustive,
            USUAL,
        ),
        holds(
            "N=3 chain, recovering what nobody has",
            Standard,
            unknown(chain()).coordinated().recoverers(&[1, 1]),
            Exhaustive,
            &[ALL_COMMITTED],
        ),
    ]
}
