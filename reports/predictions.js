'use strict';
const PER_PAGE = 60;
const byId = id => document.getElementById(id);
const photos = byId('photos').textContent.split('\n').filter(line => line.trim())
  .map((line, order) => ({...JSON.parse(line), order}));
for (const photo of photos) {
  [photo.name, photo.sure] = photo.top[0];
  photo.wrong = photo.truth !== null && photo.truth !== photo.name;
}
const fields = ['class', 'truth', 'show', 'sure', 'most', 'sort', 'heat'];
const defaults = {sure: '0', most: '1', sort: 'order'};
const orders = {
  order: (a, b) => a.order - b.order,
  surest: (a, b) => b.sure - a.sure,
  unsure: (a, b) => a.sure - b.sure,
  class: (a, b) => a.name.localeCompare(b.name) || b.sure - a.sure,
};
let page = 1;

function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function addChoices(id, key) {
  const counts = new Map();
  for (const photo of photos) counts.set(photo[key], (counts.get(photo[key]) || 0) + 1);
  for (const name of [...counts.keys()].sort((a, b) => a.localeCompare(b))) {
    const option = element('option', `${name} (${counts.get(name)})`);
    option.value = name;
    byId(id).append(option);
  }
}

function readFragment() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  for (const id of fields) {
    byId(id).value = wanted.get(id) ?? defaults[id] ?? '';
    if (byId(id).selectedIndex === -1) byId(id).selectedIndex = 0;
  }
  page = Number(wanted.get('page')) || 1;
}

function writeFragment() {
  const chosen = new URLSearchParams();
  for (const id of fields) {
    if (byId(id).value !== (defaults[id] ?? '')) chosen.set(id, byId(id).value);
  }
  if (page > 1) chosen.set('page', page);
  history.replaceState(null, '', `#${chosen}`);
}

function chosenPhotos() {
  const value = Object.fromEntries(fields.map(id => [id, byId(id).value]));
  const most = value.most === '' ? 1 : Number(value.most);
  return photos.filter(photo =>
    (!value.class || photo.name === value.class) && (!value.truth || photo.truth === value.truth)
    && (!value.show || photo.wrong === (value.show === 'wrong'))
    && photo.sure >= Number(value.sure) && photo.sure <= most).sort(orders[value.sort]);
}

function heatCanvas(cells) {
  const canvas = element('canvas'), bytes = atob(cells);
  canvas.width = canvas.height = Math.sqrt(bytes.length);
  const context = canvas.getContext('2d');
  const pixels = context.createImageData(canvas.width, canvas.height);
  for (let n = 0; n < bytes.length; n++) {  // the colours of heatmaps.py: overlay
    const heat = bytes.charCodeAt(n) / 255;
    pixels.data.set([255, 230 * heat, 0, 0.75 * 255 * heat], 4 * n);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

function tile(photo) {
  const figure = element('figure', undefined, photo.wrong ? 'wrong' : '');
  const frame = element('div', undefined, 'frame'), image = element('img');
  image.src = `data:image/webp;base64,${photo.image}`;
  image.alt = '';
  frame.append(image);
  const heat = {first: photo.heat[0], truth: photo.heat[1] ?? photo.heat[0]}[byId('heat').value];
  if (heat) {
    image.className = 'grey';
    frame.append(heatCanvas(heat));
  }
  const caption = element('figcaption');
  caption.append(element('b', photo.name), ` ${photo.sure.toFixed(2)}`);
  if (photo.wrong) caption.append(element('div', `is ${photo.truth}`, 'truth'));
  const others = photo.top.slice(1).map(([name, sure]) => `${name} ${sure.toFixed(2)}`);
  caption.append(element('div', others.slice(0, 2).join(', '), 'others'),
                 element('div', photo.path.split('/').pop(), 'path'));
  figure.title = [photo.path, `${photo.name} ${photo.sure.toFixed(4)}`, ...others].join('\n');
  figure.append(frame, caption);
  return figure;
}

function show() {
  const chosen = chosenPhotos(), pages = Math.max(1, Math.ceil(chosen.length / PER_PAGE));
  page = Math.min(Math.max(1, Math.floor(page)), pages);
  const start = (page - 1) * PER_PAGE, wrong = chosen.filter(photo => photo.wrong).length;
  byId('sheet').replaceChildren(...chosen.slice(start, start + PER_PAGE).map(tile));
  byId('count').textContent = `${chosen.length} of ${photos.length} photos`
    + (hasTruth ? `, ${wrong} of them wrong` : '');
  byId('page').textContent = `page ${page} of ${pages}`;
  byId('before').disabled = page === 1;
  byId('after').disabled = page === pages;
}

function change(to) {
  page = to;
  writeFragment();
  show();
}

const hasTruth = photos.some(photo => photo.truth !== null);
addChoices('class', 'name');
if (hasTruth) addChoices('truth', 'truth');
for (const part of document.querySelectorAll('.truths')) part.hidden = !hasTruth;
byId('heats').hidden = !photos.some(photo => photo.heat.length);
readFragment();
for (const id of fields) byId(id).addEventListener('input', () => change(1));
byId('before').addEventListener('click', () => change(page - 1));
byId('after').addEventListener('click', () => change(page + 1));
byId('all').addEventListener('click', () => {
  for (const id of fields) byId(id).value = defaults[id] ?? '';
  change(1);
});
addEventListener('hashchange', () => { readFragment(); show(); });
show();
