-- Which words set texts apart.

-- Split at what is no letter in any language. Chinese and Japanese have no spaces: pairs of characters.
create or replace function flywheel._words_of(content text)
returns table (word text)
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  with words as (
    select distinct w.word
    from regexp_split_to_table(
      lower(left(content, 4000)), E'[\\s\u0021-\u0026\u0028-\u002f\u003a-\u0040\u005b-\u005e\u0060\u007b-\u00bf\u2000-\u206f\u3000-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]+'
    ) as w (word)
    where w.word <> ''
  )
  select btrim(w.word, '''')
  from words as w
  where w.word !~ E'[\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]' and length(btrim(w.word, '''')) between 2 and 40
  union
  select substr(r.run[1], s.start, 2)
  from words as w,
    regexp_matches(w.word, E'[\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]{2,}', 'g') as r (run),
    generate_series(1, length(r.run[1]) - 1) as s (start);
$$;

comment on function flywheel._words_of(text) is 'The different words of the beginning of a text, in small letters.';

-- The words that are in more of the texts of a group than in those of the group 0, by the log-odds ratio
-- with an informative Dirichlet prior: Monroe, Colaresi and Quinn (2008), "Fightin' Words", equations 15,
-- 18, 20 and 22. A word counts once per text. The prior is how often the word occurs in all texts, with
-- the weight of as many words as the group has.
create or replace function flywheel._telling_words(groups integer[], texts text[], most integer)
returns table (group_number integer, words text[])
language sql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set jit = off
as $$
  with counted as (
    select t.group_number, w.word, count(*) as n
    from unnest(groups, texts) as t (group_number, content), flywheel._words_of(t.content) as w
    group by t.group_number, w.word
  ),
  sizes as (
    select c.group_number, sum(c.n)::double precision as n from counted as c group by c.group_number
  ),
  background as (
    select c.word, sum(c.n) / sum(sum(c.n)) over ()::double precision as share,
      coalesce(sum(c.n) filter (where c.group_number = 0), 0)::double precision as elsewhere
    from counted as c
    group by c.word
  ),
  rated as (
    select c.group_number, c.word,
      (
        ln((c.n + a.prior) / (s.n + s.n - c.n - a.prior)) - ln((b.elsewhere + a.prior) / (o.n + s.n - b.elsewhere - a.prior))
      ) / sqrt(1 / (c.n + a.prior) + 1 / (b.elsewhere + a.prior)) as z
    from counted as c
    join sizes as s on s.group_number = c.group_number
    join background as b on b.word = c.word
    cross join lateral (select b.share * s.n as prior) as a
    cross join lateral (select coalesce((select e.n from sizes as e where e.group_number = 0), 0) as n) as o
    -- A single text says nothing about a group; a word that is everything has no odds.
    where c.group_number <> 0 and c.n > 1 and c.n + a.prior < 2 * s.n and b.elsewhere + a.prior < o.n + s.n
  ),
  ranked as (
    select r.*, row_number() over (partition by r.group_number order by r.z desc, r.word) as place
    from rated as r
    where r.z > 1.959963984540054
  )
  select r.group_number, array_agg(r.word order by r.place)
  from ranked as r
  where r.place <= most
  group by r.group_number;
$$;

comment on function flywheel._telling_words(integer[], text[], integer) is
  'Per group but 0, the words that its texts have and those of group 0 have not, the most telling first.';
