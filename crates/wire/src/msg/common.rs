//! Objects that several sections share.

cocoon_tl::tl_objects! {
    /// Adjusted tokens of one request, by class.
    #[derive(Copy, Eq, Default)]
    "tokensUsed prompt_tokens_used:long cached_tokens_used:long completion_tokens_used:long reasoning_tokens_used:long total_tokens_used:long = TokensUsed",
    pub struct TokensUsed {
        /// Prompt tokens that were not cached.
        prompt_tokens_used: i64,
        /// Prompt tokens from the cache.
        cached_tokens_used: i64,
        /// Output tokens without reasoning.
        completion_tokens_used: i64,
        /// Reasoning tokens.
        reasoning_tokens_used: i64,
        /// The sum of the four classes.
        total_tokens_used: i64,
    }

    /// Unused.
    "test.answer id:long = test.Answer",
    pub struct TestAnswer {
        /// Unused.
        id: i64,
    }

    /// Unused.
    "test.query id:long = test.Answer",
    pub struct TestQuery {
        /// Unused.
        id: i64,
    }

    /// Protocol versions that a peer speaks, both ends included.
    #[derive(Copy, Eq)]
    pub struct VersionRange {
        /// Lowest version.
        min_proto_version: i32,
        /// Highest version.
        max_proto_version: i32,
    }
}
