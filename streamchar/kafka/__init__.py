"""What the Kafka client leaves to those who use it: why no broker answers, and records that it cannot read."""
