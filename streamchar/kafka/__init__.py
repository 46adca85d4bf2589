"""What the Kafka client leaves to those who use it: no broker that answers, unreadable records, moments in the past."""
