"""An MQTT broker of the hub's own: mosquitto or nats-server as a child process, hardened and supervised."""

from autoglm.channels.broker.supervisor import Broker, open_broker

__all__ = ["Broker", "open_broker"]
