"use strict";
// Texts of reviews and models reach the document as text nodes only: nothing here parses HTML.
(() => {
  const PRODUCTS_PER_PAGE = 25;
  const EXCERPT_CHARS = 400;
  const ID_CHARS = 200;
  const CONTROLS = /[\0-\x08\x0b\x0c\x0e-\x1f\x7f]/g;

  const about = JSON.parse(new TextDecoder().decode(bytesOf(document.getElementById("report"))));
  const products = { ids: [], reviews: [], stars: [], checked: [], unsupported: [], summaries: [] };
  const blocks = new Map();
  let lowered = null;
  let matches = [];
  let page = 0;

  const byId = (id) => document.getElementById(id);
  const number = (value) => value.toLocaleString("en");
  const percent = (share) => `${Math.round(100 * share)} %`;

  function bytesOf(script) {
    const text = atob(script.textContent);
    const bytes = new Uint8Array(text.length);
    for (let place = 0; place < text.length; place += 1) bytes[place] = text.charCodeAt(place);
    return bytes;
  }

  async function unpacked(script) {
    const packed = new Blob([bytesOf(script)]).stream();
    const stream = packed.pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  // Control characters as the symbols that stand for them.
  function visible(text) {
    return text.replace(CONTROLS, (c) => (c === "\x7f" ? "␡" : String.fromCharCode(0x2400 + c.charCodeAt(0))));
  }

  function beginning(text, characters) {
    if (text.length <= characters) return text;
    return `${Array.from(text.slice(0, 2 * characters)).slice(0, characters).join("")} …`;
  }

  function element(name, className, ...children) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...children);
    return made;
  }

  // An element with a text from outside, isolated from the direction of its neighbours.
  function quoted(name, className, text) {
    const made = element(name, className, visible(text));
    made.dir = "auto";
    return made;
  }

  function counted(count, unit) {
    return `${number(count)} ${unit}${count === 1 ? "" : "s"}`;
  }

  function choose() {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length && lowered === null) {
      lowered = products.ids.map((id, place) => `${id}\n${products.summaries[place]}`.toLowerCase());
    }
    const only = byId("only").checked;
    matches = [];
    for (let place = 0; place < products.ids.length; place += 1) {
      if (only && !products.unsupported[place]) continue;
      if (words.every((word) => lowered[place].includes(word))) matches.push(place);
    }
    const key = {
      highest: (place) => products.stars[place] ?? -1,
      lowest: (place) => -(products.stars[place] ?? Infinity),
      unsupported: (place) => products.unsupported[place] / (products.checked[place] || Infinity),
    }[byId("order").value];
    // The products are already in the order of their reviews.
    if (key) matches.sort((one, other) => key(other) - key(one) || one - other);
    show(0);
  }

  function show(to) {
    const last = Math.max(0, Math.ceil(matches.length / PRODUCTS_PER_PAGE) - 1);
    page = Math.min(Math.max(0, to), last);
    const first = page * PRODUCTS_PER_PAGE;
    const shown = matches.slice(first, first + PRODUCTS_PER_PAGE);
    byId("products").replaceChildren(...shown.map((place) => element("li", "", productOf(place))));
    const range = shown.length ? `Products ${number(first + 1)} to ${number(first + shown.length)} of ` : "";
    byId("status").textContent = shown.length ? `${range}${number(matches.length)}` : "No product matches.";
    byId("pages").hidden = last === 0;
    byId("page").textContent = `Page ${number(page + 1)} of ${number(last + 1)}`;
    const ends = { first: page === 0, previous: page === 0, next: page === last, last: page === last };
    for (const button of byId("pages").querySelectorAll("button")) button.disabled = ends[button.dataset.to];
  }

  function productOf(place) {
    const { ids, reviews, stars, checked, unsupported, summaries } = products;
    const figures = element("span", "figures", element("span", "", counted(reviews[place], "review")));
    if (stars[place] !== null) figures.append(element("span", "", `${stars[place].toFixed(1)} ★`));
    if (unsupported[place]) {
      figures.append(
        element("span", "flag", `✗ ${unsupported[place]} of ${counted(checked[place], "sentence")} not supported`)
      );
    }
    const head = element("span", "head", quoted("span", "id", beginning(ids[place], ID_CHARS)), figures);
    const excerpt = quoted("p", "excerpt", beginning(summaries[place], EXCERPT_CHARS));
    const made = element("details", "product", element("summary", "", head, excerpt));
    made.addEventListener("toggle", () => fill(made, place), { once: true });
    return made;
  }

  async function fill(product, place) {
    const waiting = element("p", "details", "Loading …");
    product.append(waiting);
    const details = (await blockOf(Math.floor(place / about.block)))[place % about.block];
    const texts = element("div", "", ...details.texts.map(sectionOf));
    const sides = [factsOf(details, place)];
    if (details.facts && details.facts.highlights.length) sides.push(highlightsOf(details.facts.highlights));
    waiting.replaceWith(element("div", "details", texts, element("div", "", ...sides)));
  }

  function blockOf(block) {
    if (!blocks.has(block)) {
      blocks.set(block, parsed.then(() => unpacked(byId(`details-${block}`))));
    }
    return blocks.get(block);
  }

  function sectionOf({ title, sentences }) {
    return element("section", "", element("h3", "", title), ...sentences.map(sentenceOf));
  }

  function sentenceOf({ text, evidence }) {
    if (!evidence) return quoted("p", "sentence", text);
    const { supported, support, against, reviews, score, quotes } = evidence;
    let verdict = "– Makes no claim that can be checked";
    if (supported !== null) {
      const counts = `${number(support)} of ${counted(reviews, "review")} in favour`;
      const others = against ? `, ${number(against)} against` : "";
      const rate = score === null ? "" : `, score ${score.toFixed(2)}`;
      verdict = `${supported ? "✓ Supported" : "✗ Not supported"}: ${counts}${others}${rate}`;
    }
    const kind = supported === null ? "unchecked" : supported ? "supported" : "unsupported";
    const made = element("details", `sentence ${kind}`);
    made.append(element("summary", "", quoted("span", "", text), element("span", "verdict", verdict)));
    if (quotes.length) made.append(...quotes.map(quoteOf));
    else made.append(element("p", "source", "No review is quoted for this sentence."));
    return made;
  }

  function quoteOf({ quote, review, stars, day, votes }) {
    const parts = [];
    if (stars !== null) parts.push(`${stars} ★`);
    if (day) parts.push(day);
    if (votes) parts.push(counted(votes, "helpful vote"));
    if (review !== null) parts.push(`review line ${number(review)}`);
    return element("blockquote", "", quoted("p", "", quote), element("div", "source", parts.join(" · ")));
  }

  function factsOf({ facts, read }, place) {
    const section = element("section", "facts", element("h3", "", "Reviews"));
    const rows = [["reviews", number(products.reviews[place])]];
    if (facts) {
      if (facts.stars) section.append(histogramOf(facts.stars));
      if (facts.mean !== null) rows.push(["mean", `${facts.mean.toFixed(2)} ★`]);
      if (facts.critical !== null) rows.push(["critical (below 3)", percent(facts.critical)]);
      if (facts.verified !== null) rows.push(["verified purchases", percent(facts.verified)]);
      if (facts.oldest) rows.push(["oldest", facts.oldest], ["newest", facts.newest]);
    }
    if (read.whole !== null) {
      const some = number(read.whole + (read.cut ?? 0));
      rows.push(["read by the model", `${some} of ${number(products.reviews[place])}`]);
    }
    const list = element("dl", "");
    for (const [name, value] of rows) list.append(element("dt", "", name), element("dd", "", value));
    section.append(list);
    return section;
  }

  function histogramOf(counts) {
    const most = Math.max(1, ...counts);
    const table = element("table", "histogram");
    table.setAttribute("aria-label", "Reviews by stars");
    for (let stars = counts.length; stars > 0; stars -= 1) {
      const name = element("th", "", `${stars} ★`);
      name.scope = "row";
      const bar = element("div", "bar");
      bar.style.width = `${(100 * counts[stars - 1]) / most}%`;
      const track = element("td", "track", bar);
      table.append(element("tr", "", name, track, element("td", "", number(counts[stars - 1]))));
    }
    return table;
  }

  function highlightsOf(highlights) {
    const quotes = highlights.map(({ sentence, review, stars }) => quoteOf({ quote: sentence, review, stars }));
    return element("section", "", element("h3", "", "In the customers' own words"), ...quotes);
  }

  // A link to report.html#B0QP1JHZEP shows this product.
  function linked() {
    try {
      return decodeURIComponent(location.hash.slice(1));
    } catch {
      return "";
    }
  }

  function listen() {
    let timer = 0;
    byId("search").addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(choose, 120);
    });
    byId("order").addEventListener("change", choose);
    byId("only").addEventListener("change", choose);
    byId("controls").addEventListener("submit", (event) => event.preventDefault());
    byId("pages").addEventListener("click", ({ target }) => {
      const to = { first: 0, previous: page - 1, next: page + 1, last: Infinity }[target.dataset.to];
      if (to === undefined) return;
      show(to);
      byId("status").scrollIntoView();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.target.matches("input, select")) return;
      event.preventDefault();
      byId("search").focus();
    });
  }

  async function start() {
    byId("about").textContent = visible(about.about);
    byId("about").dir = "auto";
    byId("notes").append(...about.notes.map((note) => quoted("li", "", note)));
    byId("notes").hidden = about.notes.length === 0;
    byId("only").disabled = !about.evidence;
    if (typeof DecompressionStream === "undefined") {
      byId("status").textContent = "This browser cannot decompress the data of this page: use one of 2023 or later.";
      return;
    }
    for (const script of document.querySelectorAll("script[data-index]")) {
      const some = await unpacked(script);
      for (const [name, values] of Object.entries(some)) for (const value of values) products[name].push(value);
      script.remove();
    }
    byId("search").value = linked();
    choose();
    listen();
    document.documentElement.dataset.state = "ready";
  }

  // The details follow this script in the document.
  const parsed = new Promise((resolve) => {
    document.addEventListener("DOMContentLoaded", resolve, { once: true });
  });
  start();
})();
