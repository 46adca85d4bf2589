"""What the Kafka client leaves to those who use it: brokers, topics, positions and records that it gets wrong."""
