"""Who may say and hear what, as Mosquitto's access list: generated from the wire's own table, never written by hand."""

from broker.wire.topics import DELIVERY, PREFIX, TopicKind, check_id, subscription


def access_list(centre: str = "collector") -> str:
    """Lines for `acl_file`. `%u` is the name in the certificate, so a node reaches its own level and no other.

    A subscription is granted whatever it asks for; Mosquitto filters at delivery.
    """
    lines = [f"user {check_id(centre)}"]
    for kind, delivery in DELIVERY.items():
        lines.append(f"topic {'read' if delivery.from_node else 'write'} {subscription(kind)}")
    lines.append("")
    for kind, delivery in DELIVERY.items():
        lines.append(f"pattern {'write' if delivery.from_node else 'read'} {_own(kind)}")
    return "\n".join(lines) + "\n"


def _own(kind: TopicKind) -> str:
    return f"{PREFIX}/%u/{kind}/+" if kind is TopicKind.EVENT else f"{PREFIX}/%u/{kind}"
