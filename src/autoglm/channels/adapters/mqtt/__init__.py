"""MQTT: messages from devices and to them, over a broker such as Mosquitto or EMQX."""

from autoglm.channels.adapters.mqtt.channel import Mqtt
from autoglm.channels.adapters.mqtt.settings import MqttSettings

__all__ = ["Mqtt", "MqttSettings"]
