-- The rules of reviews.cleaning and reviews.staging; RE2 has no Unicode behind \b, \s and \w.
COPY (
  WITH raw AS (
    SELECT asin, reviewerID, unixReviewTime // 86400 AS day,
      greatest(coalesce(try_cast(replace(vote, ',', '') AS BIGINT), 1), 1) AS votes,
      CASE WHEN contains(reviewText, '&') THEN unescaped(reviewText) ELSE reviewText END AS text
    FROM read_json($dump, format = 'newline_delimited', columns = {asin: 'VARCHAR',
      reviewerID: 'VARCHAR', reviewText: 'VARCHAR', unixReviewTime: 'BIGINT', vote: 'VARCHAR'})
  ), without_markup AS (
    SELECT * REPLACE (regexp_replace(regexp_replace(
      regexp_replace(text, '([\x{200c}\x{200d}])|\p{Cf}', '\1', 'g'),
      '(?s)<!--.*?-->', ' ', 'g'), '</?[A-Za-z][^<>]*>', ' ', 'g') AS text) FROM raw
  ), clean AS (
    SELECT * REPLACE (trim(regexp_replace(regexp_replace(text, '(?i)(^|[^\p{L}\p{M}\p{Nd}\p{Nl}'
      '\p{Pc}\x{200c}\x{200d}])(https?://|www\.)[^\s\x{b}\x{85}\p{Z}<>"]+', '\1 ', 'g'),
      '[\p{Z}\p{Cc}]{2,}|[\p{Cc}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}'
      '\x{205f}\x{3000}]', ' ', 'g')) AS text) FROM without_markup
  ), kept AS (
    SELECT asin, reviewerID, day, text, max(votes) AS votes
    FROM clean WHERE length(text) > $min_review_chars GROUP BY ALL
  )
  SELECT asin AS product_id, count(*) AS review_count, string_agg(text, chr(10)
    ORDER BY length(bin(votes)) DESC, day DESC, reviewerID DESC, text DESC) AS all_reviews
  FROM kept GROUP BY asin HAVING count(*) >= $min_reviews
) TO $target (FORMAT parquet, COMPRESSION zstd)
