-- Texts of others in a judge's prompt: between tags that do not occur in them.

-- A word that occurs in none of the texts: not in capitals, not in full width, not with something in
-- between. The salt (the row's id) is known to nobody who writes the texts before they are stored.
create or replace function flywheel._unused_word(texts text, salt text)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_digits constant text := regexp_replace(
    lower(case when octet_length(texts) = length(texts) then texts else normalize(texts, NFKC) end), '[^0-9a-f]+', '', 'g'
  );
  v_seed constant bytea := sha256(convert_to(texts || ' ' || salt, 'UTF8'));
  v_word text := left(encode(v_seed, 'hex'), 8);
  v_round integer := 0;
begin
  while strpos(v_digits, v_word) > 0 loop
    v_round := v_round + 1;
    v_word := left(encode(sha256(v_seed || convert_to(v_round::text, 'UTF8')), 'hex'), 8);
  end loop;
  return v_word;
end
$$;

comment on function flywheel._unused_word(text, text) is
  'Eight hexadecimal digits that do not occur in a text, always the same for the same text and salt.';

create or replace function flywheel._tagged(name text, word text, content text)
returns text
language sql
immutable
parallel safe
begin atomic
  select '<' || name || '-' || word || E'>\n' || content || E'\n</' || name || '-' || word || '>';
end;

comment on function flywheel._tagged(text, text, text) is 'Material between tags.';

-- An endpoint refuses what is beyond its context, so a long text is shown by its beginning and its end.
create or replace function flywheel._shortened(content text, max_chars integer)
returns text[]
language sql
immutable
parallel safe
begin atomic
  select case
    when length(content) > max_chars then array[left(content, max_chars - max_chars / 2), right(content, max_chars / 2)]
    else array[content]
  end;
end;

comment on function flywheel._shortened(text, integer) is
  'A text, or its beginning and its end if it is longer than max_chars.';

-- What was left out is said by us, so it stands outside the tags.
create or replace function flywheel._material(name text, word text, content text, max_chars integer)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_pieces constant text[] := flywheel._shortened(content, max_chars);
begin
  if cardinality(v_pieces) = 1 then
    return flywheel._tagged(name, word, content);
  end if;
  return flywheel._tagged(name, word, v_pieces[1])
    || format(
      E'\n(%s of its %s characters are left out here, because it is too long to be shown. It ends:)\n',
      length(content) - max_chars, length(content)
    )
    || flywheel._tagged(name, word, v_pieces[2]);
end
$$;

comment on function flywheel._material(text, text, text, integer) is
  'A text between tags; a long one in two parts, with a note of how much is left out.';
