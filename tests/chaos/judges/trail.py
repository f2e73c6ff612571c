"""The judges of the rows that a run leaves: "one source of truth", "isolation", "explained", "nothing lost"."""

from collections import Counter, defaultdict

from connections.policy.states import RecordState
from tests.chaos import bounds
from tests.chaos.history import DATABASE_AWAY, NODE_AWAY, NODE_WITHOUT_DATABASE, History
from tests.chaos.judges.verdict import Verdict

REDIRECT = 303


def one_source_of_truth(history: History) -> Verdict:
    """Check that `list_managers`, `list_nodes` and each `ready` counted the managers as the rows do."""
    verdict = Verdict()
    held = [record for record in history.records if record.id in history.agreement.held]
    by_user, by_node = Counter(record.user for record in held), Counter(record.node for record in held)
    for user in by_user.keys() | history.agreement.listed.keys():
        listed = history.agreement.listed.get(user, 0)
        verdict.check(listed == by_user[user], f"{user} is listed with {listed}, and has {by_user[user]} rows")
    for node in by_node.keys() | history.agreement.by_node.keys():
        listed = history.agreement.by_node.get(node, 0)
        verdict.check(listed == by_node[node], f"node {node} is listed with {listed}, and has {by_node[node]} rows")
    for connection in history.connections:
        if connection.admitted is not None:
            verdict.check(
                1 <= connection.counted <= history.ceiling,
                f"{connection.user} was told of {connection.counted} managers of its own",
            )
    return verdict


def isolation(history: History) -> Verdict:
    """Check that a run closed only records of its user, and that staff had asked for each reset."""
    verdict = Verdict()
    runs = {run.id: run for run in history.runs}
    asked = {(click.user, click.action) for click in history.clicks}
    users = {connection.device: connection.user for connection in history.connections}
    for record in history.records:
        verdict.check(
            users.get(record.device, record.user) == record.user,
            f"{record.id} is {record.user}'s, and its client {users.get(record.device)}",
        )
        run = runs.get(record.run)
        if run is not None:
            verdict.check(run.user == record.user, f"the run of {run.user} closed {record.user}'s {record.id}")
        if record.reason == "reset":
            verdict.check((record.user, "reset") in asked, f"{record.user} was reset, and nobody had clicked")
    for run in history.runs:
        if run.actor_kind == "staff":
            verdict.check(
                any(user == run.user for user, _ in asked), f"a run of staff for {run.user}, whom nobody had clicked"
            )
    return verdict


def explained(history: History) -> Verdict:
    verdict = Verdict()
    connections = history.connections_by_attempt()
    for record in history.records:
        if record.state != RecordState.CLOSED:
            continue
        verdict.check(
            bool(record.reason and record.evidence and record.actor_kind), f"{record.id} is closed without explanation"
        )
        connection = connections.get((record.device, record.attempt))
        if connection is not None and connection.closing is not None and connection.admitted is not None:
            verdict.check(
                connection.closing.reason == record.reason or f"then {connection.closing.reason}:" in record.evidence,
                f"the client of {record.id} was told {connection.closing.reason},"
                f" and its record says {record.reason}: {record.evidence}",
            )
    entries = defaultdict(list)
    for entry in history.audit:
        entries[entry.reason].append(entry)
    for click in history.clicks:
        found = entries[click.token]
        verdict.counts["clicks that failed"] += click.status != REDIRECT
        if click.status == REDIRECT:
            verdict.check(len(found) == 1, f"{click.action} of {click.user} has {len(found)} audit entries")
        elif click.status:
            # Without a database, the entry can only be logged, and the node can't find out which member of staff asks.
            away = history.during(click.at - bounds.RECONNECT, click.answered, DATABASE_AWAY) or history.during(
                click.at - bounds.RECONNECT, click.answered, (*NODE_WITHOUT_DATABASE, *NODE_AWAY), click.node
            )
            verdict.check(
                bool(found) or away,
                f"{click.action} of {click.user} on {click.node} at {click.at:.2f} was answered with {click.status},"
                " and is not in the audit trail",
            )
    return verdict


def nothing_lost(history: History) -> Verdict:
    verdict = Verdict()
    stored = defaultdict(list)
    numbers = defaultdict(list)
    for message in history.messages:
        numbers[message.conversation].append(message.seq)
        if message.client_id:
            stored[message.client_id].append(message)
    for ack in history.acks:
        rows = [(message.conversation, message.seq) for message in stored[ack.client_id]]
        verdict.check(
            rows == [(ack.conversation, ack.seq)],
            f"{ack.client_id} was acknowledged as {ack.seq} of {ack.conversation}, and is stored as {rows}",
        )
    for client_id, messages in stored.items():
        verdict.check(client_id in history.sent, f"{client_id} was stored, and nobody had sent it")
        verdict.check(len(messages) == 1, f"{client_id} was stored {len(messages)} times")
    for conversation, seqs in numbers.items():
        verdict.check(sorted(seqs) == list(range(1, len(seqs) + 1)), f"{conversation} has the numbers {sorted(seqs)}")
    for conversation, seqs in history.agreement.read.items():
        # An agent may have answered between the resume and the reading of the rows.
        least, most = history.agreement.stored.get(conversation, 0), len(numbers[conversation])
        verdict.check(
            seqs == list(range(1, len(seqs) + 1)) and least <= len(seqs) <= most,
            f"by a resume of {conversation} a socket was sent {seqs}; {least} to {most} messages were stored",
        )
    for error in history.delivery_errors:
        verdict.check(holds=False, otherwise=error)
    verdict.counts["acknowledged"] = len({ack.client_id for ack in history.acks})
    verdict.counts["stored"] = len(stored)
    return verdict
