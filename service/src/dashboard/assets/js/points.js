/* Many points on a plane: kept in typed arrays, drawn pixel by pixel, found again through a grid of cells. Needs no graphics card. */

const CELLS = 256;

/** Points stamped at most, in pixels, in one frame. */
const WORK = 3e6;

export class Points {
  /** Columns of the map's answer; coordinates are moved so that all lie in a square from −1 to 1. */
  constructor({ row, x, y, group, score, source, picked }) {
    const count = row.length, numbers = (list) => Float32Array.from(list || [], (value) => (value === null ? NaN : value));
    Object.assign(this, { count, row, group: Int32Array.from(group || row, (value) => (group && value !== null ? value : -1)), score: score ? numbers(score) : new Float32Array(count).fill(NaN),
      source: Int32Array.from(source || row, (value) => (source && value !== null ? value : -1)), picked: Uint8Array.from(picked || row, (value) => (picked && value ? 1 : 0)) });
    this.place(numbers(x), numbers(y));
    this.paint = new Uint32Array(count);
    this.dim = new Uint8Array(count);
    this.order = order(this.picked);
    this.index();
  }

  place(x, y) {
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < x.length; i += 1) {
      if (x[i] < left) left = x[i];
      if (x[i] > right) right = x[i];
      if (y[i] < low) low = y[i];
      if (y[i] > high) high = y[i];
    }
    const half = Math.max(right - left, high - low) / 2 || 1, across = (left + right) / 2, up = (low + high) / 2;
    this.x = x.map((value) => (value - across) / half);
    this.y = y.map((value) => (value - up) / half);
  }

  cell(value) { return Math.max(0, Math.min(CELLS - 1, Math.floor((value + 1) / 2 * CELLS))); }

  /** Points by cell: those of cell c are `members[starts[c]..starts[c + 1]]`. */
  index() {
    const of = new Uint32Array(this.count), starts = new Uint32Array(CELLS * CELLS + 1);
    for (let i = 0; i < this.count; i += 1) { of[i] = this.cell(this.y[i]) * CELLS + this.cell(this.x[i]); starts[of[i] + 1] += 1; }
    for (let c = 0; c < CELLS * CELLS; c += 1) starts[c + 1] += starts[c];
    const next = starts.slice(), members = new Uint32Array(this.count);
    for (let i = 0; i < this.count; i += 1) { members[next[of[i]]] = i; next[of[i]] += 1; }
    Object.assign(this, { starts, members });
  }

  /** Calls `each` with every point whose cell touches the rectangle. */
  within(left, right, low, high, each) {
    const [from, to] = [this.cell(left), this.cell(right)];
    for (let down = this.cell(low); down <= this.cell(high); down += 1) {
      for (let at = this.starts[down * CELLS + from]; at < this.starts[down * CELLS + to + 1]; at += 1) each(this.members[at]);
    }
  }

  /** The nearest point that is not dimmed, −1 where none is within reach. */
  nearest(x, y, reach) {
    let best = -1, least = reach * reach;
    this.within(x - reach, x + reach, y - reach, y + reach, (i) => {
      if (this.dim[i]) return;
      const d = (this.x[i] - x) ** 2 + (this.y[i] - y) ** 2;
      if (d <= least) { least = d; best = i; }
    });
    return best;
  }

  /** Draw into the pixels of a picture: `view` has the middle and pixels per unit. Only every `stride`-th point while things move. */
  draw(image, view, ground, ratio, stride = 1) {
    const { width, height } = image, pixels = new Uint32Array(image.data.buffer);
    pixels.fill(ground);
    const seen = Math.min(this.count, this.count * ((width / view.unit / 2) * (height / view.unit / 2)) || this.count);
    const wish = (0.7 + Math.min(3, Math.log2(Math.max(1, view.zoom)) * 0.6) + (this.count < 5000 ? 1.2 : 0)) * ratio;
    const radius = Math.min(wish, Math.max(0.7, Math.sqrt(WORK / Math.max(1, seen) / 3.2)));
    const plain = stamp(radius, width), strong = stamp(radius + 0.6 * ratio, width);
    const across = width / 2 - view.x * view.unit, down = height / 2 + view.y * view.unit, edge = Math.ceil(radius + ratio + 1);
    for (let n = 0; n < this.count; n += stride) {
      const i = this.order[n];
      const px = (across + this.x[i] * view.unit) | 0, py = (down - this.y[i] * view.unit) | 0;
      if (px < edge || py < edge || px >= width - edge || py >= height - edge) continue;
      const { offsets, cover } = this.picked[i] ? strong : plain, colour = this.paint[i], faint = this.dim[i] ? 0.15 : 1, at = py * width + px;
      for (let k = 0; k < offsets.length; k += 1) pixels[at + offsets[k]] = mix(pixels[at + offsets[k]], colour, (cover[k] * faint) | 0);
    }
  }
}

/** Two packed colours, `part` of 256 of the second. */
function mix(below, above, part) {
  const rb = (((below & 0xff00ff) * (256 - part) + (above & 0xff00ff) * part) >>> 8) & 0xff00ff;
  const g = (((below & 0xff00) * (256 - part) + (above & 0xff00) * part) >>> 8) & 0xff00;
  return (0xff000000 | rb | g) >>> 0;
}

/** A disc as offsets into the pixels and how much of each it covers, of 256. */
function stamp(radius, width) {
  const offsets = [], cover = [], reach = Math.ceil(radius);
  for (let dy = -reach; dy <= reach; dy += 1) {
    for (let dx = -reach; dx <= reach; dx += 1) {
      const part = Math.max(0, Math.min(1, radius + 0.5 - Math.hypot(dx, dy)));
      if (part > 0.05) { offsets.push(dy * width + dx); cover.push(Math.round(part * 215)); }
    }
  }
  return { offsets: Int32Array.from(offsets), cover: Uint16Array.from(cover) };
}

/** A mixed order, the same every time, with picked points on top, so that no cluster covers another for being later. */
function order(picked) {
  const all = Uint32Array.from(picked, (_, i) => i);
  let state = 2463534242;
  for (let i = all.length - 1; i > 0; i -= 1) {
    state ^= state << 13; state ^= state >>> 17; state ^= state << 5;
    const j = (state >>> 0) % (i + 1), own = all[i];
    all[i] = all[j];
    all[j] = own;
  }
  const [plain, strong] = [0, 1].map((kind) => all.filter((i) => picked[i] === kind));
  const out = new Uint32Array(all.length);
  out.set(plain);
  out.set(strong, plain.length);
  return out;
}

const known = new Map();
let pen = null;

/** A colour of the style sheet as red, green, blue. */
export function rgb(colour) {
  if (known.has(colour)) return known.get(colour);
  pen ||= Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  pen.fillStyle = colour;
  pen.fillRect(0, 0, 1, 1);
  const out = [...pen.getImageData(0, 0, 1, 1).data.slice(0, 3)];
  known.set(colour, out);
  return out;
}

/** Packed as the pixels have it (the lowest byte is red). */
export const packed = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;

const STOPS = ["#4b2a85", "#3b6fb6", "#1f9e89", "#6cc04a", "#f0d02c"];

/** A colour for a value from 0 to 1. */
export function ramp(value) {
  const at = Math.max(0, Math.min(1, value)) * (STOPS.length - 1), low = Math.min(STOPS.length - 2, Math.floor(at)), part = at - low;
  const [a, b] = [rgb(STOPS[low]), rgb(STOPS[low + 1])];
  return a.map((own, i) => Math.round(own + (b[i] - own) * part));
}
