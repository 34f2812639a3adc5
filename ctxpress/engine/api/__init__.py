"""The worker's HTTP surface: OpenAI's shapes in and out, over the scheduler."""
