-- Tokens that a provider found in its cache, under the names that instrumentation and providers give them:
-- OpenTelemetry's gen_ai.usage, OpenInference's llm.token_count, and the objects usage of OpenAI (both
-- APIs), Anthropic and Gemini, kept as they came.
create or replace function flywheel._cached_tokens(attributes jsonb)
returns bigint
language sql
immutable
parallel safe
begin atomic
  select case when attributes <> '{}' then (
    select case when n.tokens between 0 and 1e15 then n.tokens::bigint end
    from (
      select v.value::numeric as tokens
      from (
        values
          (1, attributes -> 'gen_ai.usage.cache_read.input_tokens'),
          (2, attributes -> 'gen_ai.usage.cache_read_input_tokens'),
          (3, attributes -> 'llm.token_count.prompt_details.cache_read'),
          (4, attributes #> '{gen_ai,usage,cache_read,input_tokens}'),
          (5, attributes #> '{llm,token_count,prompt_details,cache_read}'),
          (6, attributes #> '{usage,prompt_tokens_details,cached_tokens}'),
          (7, attributes #> '{usage,input_tokens_details,cached_tokens}'),
          (8, attributes #> '{usage,cache_read_input_tokens}'),
          (9, attributes #> '{usageMetadata,cachedContentTokenCount}')
      ) as v (place, value)
      where jsonb_typeof(v.value) = 'number'
      order by v.place
      limit 1
    ) as n
  ) end;
end;

comment on function flywheel._cached_tokens(jsonb) is
  'How many input tokens of a span came from the provider''s cache, as its attributes say; null if they do not.';
