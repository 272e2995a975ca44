-- Models that judge. A model names the environment variable of the worker that holds its key: the key
-- itself is nowhere in the database, and a worker sends it only to hosts that its own configuration
-- allows, whatever is written here.

create or replace function flywheel._check_model(model flywheel._models)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if btrim(coalesce(model.name, '')) = '' or length(model.name) > 200 then
    raise exception 'a model needs a name of 1 to 200 characters' using errcode = 'LF001';
  end if;
  if model.base_url is null or model.base_url !~* '^https?://[^\s/@?#]+(/[^\s?#]*)?$' then
    raise exception 'the base_url is %', coalesce(quote_literal(model.base_url), 'null')
      using errcode = 'LF001',
        hint = 'Give the address above /chat/completions, without a user, a key or a query: https://api.openai.com/v1, http://localhost:11434/v1.';
  end if;
  if btrim(coalesce(model.model, '')) = '' then
    raise exception 'the model of % is empty', quote_ident(model.name)
      using errcode = 'LF001', hint = 'Give the endpoint''s own name for it, for example gpt-4o-mini.';
  end if;
  if model.provider is null or model.provider not in ('openai', 'azure') then
    raise exception 'the provider % is unknown', coalesce(quote_literal(model.provider), 'null')
      using errcode = 'LF001', hint = 'Use ''openai'', which everything compatible is, or ''azure''.';
  end if;
  if model.provider = 'azure' and model.api_version is null then
    raise exception 'azure needs an api_version' using errcode = 'LF001', hint = 'For example: api_version => ''2024-10-21''.';
  end if;
  if model.api_key_env !~ '^FLYWHEEL_KEY_[A-Z0-9_]+$' then
    raise exception 'the api_key_env % has not the prefix FLYWHEEL_KEY_', quote_literal(left(model.api_key_env, 40))
      using errcode = 'LF001',
        hint = 'Give the name of an environment variable of the worker, for example FLYWHEEL_KEY_OPENAI, and never the key itself.';
  end if;
  if model.structured_output is null or model.structured_output not in ('auto', 'json_schema', 'json_object', 'none') then
    raise exception 'structured_output is %', coalesce(quote_literal(model.structured_output), 'null')
      using errcode = 'LF001', hint = 'Use ''auto'', ''json_schema'', ''json_object'' or ''none''.';
  end if;
  if model.parameters is null or jsonb_typeof(model.parameters) <> 'object'
    or model.parameters ?| array['model', 'messages', 'stream', 'n', 'response_format', 'tools'] then
    raise exception 'the parameters are %', coalesce(left(model.parameters::text, 200), 'null')
      using errcode = 'LF001',
        hint = 'Give a JSON object such as {"temperature": 0, "max_tokens": 500}; model, messages, stream, n, response_format and tools are set for each call.';
  end if;
  if not coalesce(
    model.timeout_seconds between 1 and 3600
    and coalesce(model.max_concurrency, 1) > 0 and coalesce(model.requests_per_minute, 1) > 0
    and coalesce(model.tokens_per_minute, 1) > 0 and coalesce(model.daily_budget_usd, 0) >= 0, false
  ) then
    raise exception 'a limit of % is out of range', quote_ident(model.name)
      using errcode = 'LF001',
        hint = 'timeout_seconds is from 1 to 3600; max_concurrency, requests_per_minute and tokens_per_minute are at least 1, daily_budget_usd at least 0, or null for no limit.';
  end if;
end
$$;

comment on function flywheel._check_model(flywheel._models) is 'Refuses the options of a model that make no sense, saying what to give instead.';

create or replace function flywheel._warn_of_budget(model flywheel._models)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if model.daily_budget_usd > 0 and not exists (select from flywheel._prices as p where p.model_id = model.model_id) then
    raise warning 'the daily budget of % will never be spent: the model has no prices', quote_ident(model.name)
      using hint = 'select flywheel.set_price(...) in US dollars per million tokens.';
  end if;
end
$$;

comment on function flywheel._warn_of_budget(flywheel._models) is 'Warns of a daily budget that limits nothing.';

create or replace function flywheel.create_model(
  name text,
  base_url text,
  model text,
  api_key_env text default null,
  provider text default 'openai',
  api_version text default null,
  parameters jsonb default '{}',
  structured_output text default 'auto',
  timeout_seconds double precision default 60,
  max_concurrency integer default null,
  requests_per_minute integer default null,
  tokens_per_minute integer default null,
  daily_budget_usd numeric default null,
  input_price numeric default null,
  output_price numeric default null,
  cached_input_price numeric default null,
  description text default null
)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_model flywheel._models;
begin
  v_model.name := name;
  v_model.base_url := rtrim(base_url, '/');
  v_model.model := model;
  v_model.api_key_env := api_key_env;
  v_model.provider := provider;
  v_model.api_version := api_version;
  v_model.parameters := parameters;
  v_model.structured_output := structured_output;
  v_model.timeout_seconds := timeout_seconds;
  v_model.max_concurrency := max_concurrency;
  v_model.requests_per_minute := requests_per_minute;
  v_model.tokens_per_minute := tokens_per_minute;
  v_model.daily_budget_usd := daily_budget_usd;
  v_model.description := description;
  perform flywheel._check_model(v_model);
  if (input_price is null) <> (output_price is null) or cached_input_price is not null and input_price is null then
    raise exception 'a price is missing' using errcode = 'LF001', hint = 'Give input_price and output_price, in US dollars per million tokens.';
  end if;

  insert into flywheel._models (
    name, base_url, model, api_key_env, provider, api_version, parameters, structured_output, timeout_seconds,
    max_concurrency, requests_per_minute, tokens_per_minute, daily_budget_usd, description
  )
  values (
    v_model.name, v_model.base_url, v_model.model, v_model.api_key_env, v_model.provider, v_model.api_version,
    v_model.parameters, v_model.structured_output, v_model.timeout_seconds, v_model.max_concurrency,
    v_model.requests_per_minute, v_model.tokens_per_minute, v_model.daily_budget_usd, v_model.description
  )
  returning model_id into v_model.model_id;
  insert into flywheel._model_states (model_id) values (v_model.model_id);
  if input_price is not null then
    perform flywheel.set_price(name, input_price, output_price, cached_input_price, '-infinity');
  end if;
  perform flywheel._warn_of_budget(v_model);
  return v_model.model_id;
exception when unique_violation then
  raise exception 'there is a model % already', quote_ident(name)
    using errcode = 'LF201', hint = 'Use flywheel.alter_model() to change it.';
end
$$;

comment on function flywheel.create_model(
  text, text, text, text, text, text, jsonb, text, double precision, integer, integer, integer, numeric,
  numeric, numeric, numeric, text
) is
  'Tells where a model is called: any endpoint that speaks OpenAI''s chat completions. api_key_env names an environment variable of the worker, FLYWHEEL_KEY_...; the key itself is never stored. Limits are for all workers together. Prices are US dollars per million tokens. Returns its id.';

create or replace function flywheel.alter_model(
  name text,
  base_url text default null,
  model text default null,
  api_key_env text default null,
  provider text default null,
  api_version text default null,
  parameters jsonb default null,
  structured_output text default null,
  timeout_seconds double precision default null,
  max_concurrency integer default null,
  requests_per_minute integer default null,
  tokens_per_minute integer default null,
  daily_budget_usd numeric default null,
  description text default null,
  clear text[] default '{}'
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_model flywheel._models := flywheel._find_model(name);
  v_clearable constant text[] := array[
    'api_key_env', 'api_version', 'max_concurrency', 'requests_per_minute', 'tokens_per_minute', 'daily_budget_usd', 'description'
  ];
begin
  if not clear <@ v_clearable then
    raise exception 'clear names %, which cannot be cleared',
      (select string_agg(quote_literal(c), ', ') from unnest(clear) as c where not c = any (v_clearable))
      using errcode = 'LF002', hint = 'These can: ' || array_to_string(v_clearable, ', ') || '.';
  end if;
  v_model.base_url := coalesce(rtrim(base_url, '/'), v_model.base_url);
  v_model.model := coalesce(model, v_model.model);
  v_model.provider := coalesce(provider, v_model.provider);
  v_model.parameters := coalesce(parameters, v_model.parameters);
  v_model.structured_output := coalesce(structured_output, v_model.structured_output);
  v_model.timeout_seconds := coalesce(timeout_seconds, v_model.timeout_seconds);
  v_model.api_key_env := case when 'api_key_env' = any (clear) then null else coalesce(api_key_env, v_model.api_key_env) end;
  v_model.api_version := case when 'api_version' = any (clear) then null else coalesce(api_version, v_model.api_version) end;
  v_model.max_concurrency := case when 'max_concurrency' = any (clear) then null else coalesce(max_concurrency, v_model.max_concurrency) end;
  v_model.requests_per_minute := case when 'requests_per_minute' = any (clear) then null else coalesce(requests_per_minute, v_model.requests_per_minute) end;
  v_model.tokens_per_minute := case when 'tokens_per_minute' = any (clear) then null else coalesce(tokens_per_minute, v_model.tokens_per_minute) end;
  v_model.daily_budget_usd := case when 'daily_budget_usd' = any (clear) then null else coalesce(daily_budget_usd, v_model.daily_budget_usd) end;
  v_model.description := case when 'description' = any (clear) then null else coalesce(description, v_model.description) end;
  perform flywheel._check_model(v_model);

  update flywheel._models as m
  set base_url = v_model.base_url, model = v_model.model, provider = v_model.provider, parameters = v_model.parameters,
    structured_output = v_model.structured_output, timeout_seconds = v_model.timeout_seconds,
    api_key_env = v_model.api_key_env, api_version = v_model.api_version, max_concurrency = v_model.max_concurrency,
    requests_per_minute = v_model.requests_per_minute, tokens_per_minute = v_model.tokens_per_minute,
    daily_budget_usd = v_model.daily_budget_usd, description = v_model.description
  where m.model_id = v_model.model_id;

  if daily_budget_usd is not null then
    perform flywheel._warn_of_budget(v_model);
  end if;

  -- What was wrong may be mended: find out at once.
  update flywheel._model_states as s
  set failures = 0, openings = 0, open_until = null, is_probing = false, refilled_at = '-infinity', request_room = 0, token_room = 0
  where s.model_id = v_model.model_id;
  delete from flywheel._pauses as p
  using flywheel._validator_versions as v
  where v.version_id = p.version_id and v.language = 'llm' and v.model = v_model.name;
  perform pg_notify('flywheel_jobs', '');
end
$$;

comment on function flywheel.alter_model(
  text, text, text, text, text, text, jsonb, text, double precision, integer, integer, integer, numeric, text, text[]
) is
  'Changes a model; what is not given stays, what clear names is removed. Validators that paused because of it and its circuit breaker try again at once. The run log says which model each verdict came from.';

create or replace function flywheel.drop_model(name text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_model flywheel._models := flywheel._find_model(name);
  v_used_by text;
begin
  select string_agg(quote_ident(e.name), ', ') into v_used_by
  from flywheel._embedders as e
  where e.provider = 'openai' and e.model = v_model.name;
  if v_used_by is not null then
    raise exception 'the model % is used by the embedder %', quote_ident(name), v_used_by
      using errcode = 'LF203', hint = 'Drop the embedder first: flywheel.drop_embedder().';
  end if;
  select string_agg(distinct quote_ident(d.name), ', ') into v_used_by
  from flywheel._validator_versions as v
  join flywheel._validators as d on d.validator_id = v.validator_id and d.dropped_at is null
  where v.language = 'llm' and v.model = v_model.name
    and (
      v.version_id = (flywheel._latest_version(v.validator_id)).version_id
      or exists (select from flywheel._jobs as j where j.version_id = v.version_id and j.state = 'pending')
    );
  if v_used_by is not null then
    raise exception 'the model % is used by %', quote_ident(name), v_used_by
      using errcode = 'LF203', hint = 'Give those validators another model, or drop them, and let their jobs end.';
  end if;
  delete from flywheel._models as m where m.model_id = v_model.model_id;
  delete from flywheel._model_states as s where s.model_id = v_model.model_id;
  delete from flywheel._usage as u where u.model_id = v_model.model_id;
end
$$;

comment on function flywheel.drop_model(text) is
  'Removes a model that no validator uses, with its prices and what it has used. The run log stays.';

create or replace function flywheel.set_price(
  model text,
  input_price numeric,
  output_price numeric,
  cached_input_price numeric default null,
  valid_from timestamptz default null
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_model flywheel._models := flywheel._find_model(model);
begin
  if input_price is null or output_price is null or input_price < 0 or output_price < 0 or cached_input_price < 0 then
    raise exception 'the prices are % and %', coalesce(input_price::text, 'null'), coalesce(output_price::text, 'null')
      using errcode = 'LF001', hint = 'Give US dollars per million tokens of input and of output, 0 if it costs nothing.';
  end if;
  insert into flywheel._prices as p (model_id, valid_from, input_price, cached_input_price, output_price)
  values (v_model.model_id, coalesce(set_price.valid_from, flywheel.now()), set_price.input_price, set_price.cached_input_price, set_price.output_price)
  on conflict on constraint _prices_pkey do update
  set input_price = excluded.input_price, cached_input_price = excluded.cached_input_price, output_price = excluded.output_price;
end
$$;

comment on function flywheel.set_price(text, numeric, numeric, numeric, timestamptz) is
  'What a model costs from valid_from on (now by default), in US dollars per million tokens of input, of output and of cached input (null: as input). Earlier prices stay for earlier calls.';
