-- The embedder hash: signed feature hashing of character grams. Its Python twin, which says what it
-- computes and why, is plpython/flywheel_pl/embeddings/hashing.py; a test compares the two.

-- What of a long text makes its vector, so that no more is handed over.
create or replace function flywheel._hashed_part(content text)
returns text
language sql
immutable
parallel safe
begin atomic
  select case
    when octet_length(content) > 6000 and length(content) > 6000 then left(content, 3000) || ' ' || right(content, 3000)
    else content
  end;
end;

comment on function flywheel._hashed_part(text) is 'The beginning and the end of a long text: what its vector by hash is made of.';

-- Letters are folded by a table, because what lower() does depends on the database's collation.
create or replace function flywheel._hash_words(content text)
returns text[]
language sql
immutable
parallel safe
begin atomic
  select array_remove(string_to_array(
    case
      when octet_length(f.folded) = length(f.folded) then f.folded
      else translate(
        f.folded,
        E'\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000' || 'ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞĀĂĄĆĈĊČĎĐĒĔĖĘĚĜĞĠĢĤĦĨĪĬĮĲĴĶĹĻĽĿŁŃŅŇŊŌŎŐŒŔŖŘŚŜŞŠŢŤŦŨŪŬŮŰŲŴŶŸŹŻŽƁƂƄƆƇƉƊƋƎƏƐƑƓƔƖƗƘƜƝƟƠƢƤƦƧƩƬƮƯƱƲƳƵƷƸƼǄǅǇǈǊǋǍǏǑǓǕǗǙǛǞǠǢǤǦǨǪǬǮǱǲǴǶǷǸǺǼǾȀȂȄȆȈȊȌȎȐȒȔȖȘȚȜȞȠȢȤȦȨȪȬȮȰȲȺȻȽȾɁɃɄɅɆɈɊɌɎͰͲͶͿΆΈΉΊΌΎΏΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩΪΫϏϘϚϜϞϠϢϤϦϨϪϬϮϴϷϹϺϽϾϿЀЁЂЃЄЅІЇЈЉЊЋЌЍЎЏАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯѠѢѤѦѨѪѬѮѰѲѴѶѸѺѼѾҀҊҌҎҐҒҔҖҘҚҜҞҠҢҤҦҨҪҬҮҰҲҴҶҸҺҼҾӀӁӃӅӇӉӋӍӐӒӔӖӘӚӜӞӠӢӤӦӨӪӬӮӰӲӴӶӸӺӼӾԀԂԄԆԈԊԌԎԐԒԔԖԘԚԜԞԠԢԤԦԨԪԬԮԱԲԳԴԵԶԷԸԹԺԻԼԽԾԿՀՁՂՃՄՅՆՇՈՉՊՋՌՍՎՏՐՑՒՓՔՕՖḀḂḄḆḈḊḌḎḐḒḔḖḘḚḜḞḠḢḤḦḨḪḬḮḰḲḴḶḸḺḼḾṀṂṄṆṈṊṌṎṐṒṔṖṘṚṜṞṠṢṤṦṨṪṬṮṰṲṴṶṸṺṼṾẀẂẄẆẈẊẌẎẐẒẔẞẠẢẤẦẨẪẬẮẰẲẴẶẸẺẼẾỀỂỄỆỈỊỌỎỐỒỔỖỘỚỜỞỠỢỤỦỨỪỬỮỰỲỴỶỸỺỼỾＡＢＣＤＥＦＧＨＩＪＫＬＭＮＯＰＱＲＳＴＵＶＷＸＹＺ',
        repeat(' ', 19) || 'àáâãäåæçèéêëìíîïðñòóôõöøùúûüýþāăąćĉċčďđēĕėęěĝğġģĥħĩīĭįĳĵķĺļľŀłńņňŋōŏőœŕŗřśŝşšţťŧũūŭůűųŵŷÿźżžɓƃƅɔƈɖɗƌǝəɛƒɠɣɩɨƙɯɲɵơƣƥʀƨʃƭʈưʊʋƴƶʒƹƽǆǆǉǉǌǌǎǐǒǔǖǘǚǜǟǡǣǥǧǩǫǭǯǳǳǵƕƿǹǻǽǿȁȃȅȇȉȋȍȏȑȓȕȗșțȝȟƞȣȥȧȩȫȭȯȱȳⱥȼƚⱦɂƀʉʌɇɉɋɍɏͱͳͷϳάέήίόύώαβγδεζηθικλμνξοπρστυφχψωϊϋϗϙϛϝϟϡϣϥϧϩϫϭϯθϸϲϻͻͼͽѐёђѓєѕіїјљњћќѝўџабвгдежзийклмнопрстуфхцчшщъыьэюяѡѣѥѧѩѫѭѯѱѳѵѷѹѻѽѿҁҋҍҏґғҕҗҙқҝҟҡңҥҧҩҫҭүұҳҵҷҹһҽҿӏӂӄӆӈӊӌӎӑӓӕӗәӛӝӟӡӣӥӧөӫӭӯӱӳӵӷӹӻӽӿԁԃԅԇԉԋԍԏԑԓԕԗԙԛԝԟԡԣԥԧԩԫԭԯաբգդեզէըթժիլխծկհձղճմյնշոչպջռսվտրցւփքօֆḁḃḅḇḉḋḍḏḑḓḕḗḙḛḝḟḡḣḥḧḩḫḭḯḱḳḵḷḹḻḽḿṁṃṅṇṉṋṍṏṑṓṕṗṙṛṝṟṡṣṥṧṩṫṭṯṱṳṵṷṹṻṽṿẁẃẅẇẉẋẍẏẑẓẕßạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹỻỽỿａｂｃｄｅｆｇｈｉｊｋｌｍｎｏｐｑｒｓｔｕｖｗｘｙｚ'
      )
    end, ' '
  ), '')
  from (
    select lower(translate(
      flywheel._hashed_part(content),
      E'\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f', repeat(' ', 9)
    ) collate "C") as folded
  ) as f;
end;

comment on function flywheel._hash_words(text) is 'The words of a text whose grams are hashed, in small letters.';

-- Each different word is hashed once, however many of the texts have it. Without JIT: the planner takes
-- a handful of words for a million, and compiling takes longer than the work.
create or replace function flywheel._hash_weights_in_sql(texts text[])
returns vector[]
language sql
immutable
set jit = off
begin atomic
  with words as materialized (
    select t.position, w.word, count(*) as times
    from unnest(texts) with ordinality as t (content, position),
      unnest(flywheel._hash_words(t.content)) as w (word)
    group by t.position, w.word
  ),
  grams as (
    select d.word, substr(d.padded, s.start, n.size) as gram
    from (select distinct word, ' ' || word || ' ' as padded from words) as d,
      generate_series(3, 5) as n (size),
      generate_series(1, length(d.padded) - n.size + 1) as s (start)
    union all
    select d.word, substr(r.run[1], s.start, n.size)
    from (select distinct word from words where octet_length(word) > length(word)) as d,
      regexp_matches(d.word, E'[\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff]+', 'g') as r (run),
      generate_series(1, 2) as n (size),
      generate_series(1, length(r.run[1]) - n.size + 1) as s (start)
  ),
  numbers as (
    select g.word, get_byte(h.hash, 0) * 65536 + get_byte(h.hash, 1) * 256 + get_byte(h.hash, 2) as number
    from grams as g, lateral (select sha256(convert_to(g.gram, 'UTF8')) as hash) as h
  ),
  slots as (
    select word, (number >> 1) % 384 as slot, sum(1 - 2 * (number & 1)) as total
    from numbers
    group by word, (number >> 1) % 384
  ),
  sums as (
    select w.position, s.slot, sum(w.times * s.total) as total
    from words as w
    join slots as s using (word)
    group by w.position, s.slot
  ),
  vectors as (
    select
      position,
      ('{' || string_agg(slot + 1 || ':' || round(10 * sqrt(abs(total))::double precision) * sign(total), ',') || '}/384')::sparsevec::vector
        as embedding
    from sums
    where total <> 0
    group by position
  )
  select coalesce(array_agg(v.embedding order by p.position), '{}')
  from generate_series(1, cardinality(texts)) as p (position)
  left join vectors as v using (position);
end;

comment on function flywheel._hash_weights_in_sql(text[]) is
  'The same as _hash_weights_in_python(), for a database without Python, about a tenth as fast.';

create or replace function flywheel._normalize(vectors vector[])
returns vector[]
language sql
immutable
parallel safe
begin atomic
  select coalesce(array_agg(l2_normalize(v.embedding) order by v.position), '{}')
  from unnest(vectors) with ordinality as v (embedding, position);
end;

comment on function flywheel._normalize(vector[]) is 'The vectors with length 1, in their order.';

create or replace function flywheel._hash_vectors(texts text[])
returns vector[]
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if to_regproc('flywheel._hash_weights_in_python') is null then
    return flywheel._normalize(flywheel._hash_weights_in_sql(texts));
  end if;
  return flywheel._normalize(flywheel._hash_weights_in_python(texts));
end
$$;

comment on function flywheel._hash_vectors(text[]) is
  'The vectors of texts by the embedder hash, 384 numbers of length 1 each, in the order of the texts; null for a text that is null or has no word.';

create or replace function flywheel._hash_vector(content text)
returns vector
language sql
immutable
begin atomic
  select (flywheel._hash_vectors(array[content]))[1];
end;

comment on function flywheel._hash_vector(text) is 'The vector of one text by the embedder hash; null for a text that is null or has no word.';
