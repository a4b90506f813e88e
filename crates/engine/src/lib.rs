//! Models: the embedded transformer engine, its OpenAI surface, OpenAI-HTTP upstreams, and the tiny model's recipe.
