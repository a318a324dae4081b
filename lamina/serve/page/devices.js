// A camera, a microphone, a pad to draw on: each has an element to look at, take() for a Blob, and stop().

export async function camera() {
  const video = document.createElement("video");
  video.muted = true; video.playsInline = true; video.setAttribute("aria-label", "What the camera sees");
  video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: 640 } });
  await video.play();
  return {
    element: video,
    stop: () => video.srcObject.getTracks().forEach((track) => track.stop()),
    take: () => {
      const still = document.createElement("canvas");
      still.width = video.videoWidth; still.height = video.videoHeight;
      still.getContext("2d").drawImage(video, 0, 0);
      return new Promise((done) => still.toBlob(done, "image/png"));
    },
  };
}

// `cells`: how many pixels wide the network's own picture is: a stroke is never thinner than one of them
export function pad(cells = 0, side = 280) {
  const canvas = document.createElement("canvas"), ink = canvas.getContext("2d");
  canvas.width = canvas.height = side; canvas.className = "pad"; canvas.tabIndex = 0;
  canvas.setAttribute("role", "img"); canvas.setAttribute("aria-label", "A pad to draw on, white on black; Delete clears it");
  const clear = () => { ink.fillStyle = "#000"; ink.fillRect(0, 0, side, side); };
  clear();
  ink.strokeStyle = "#fff"; ink.lineWidth = Math.max(side / 12, cells ? (1.4 * side) / cells : 0); ink.lineCap = ink.lineJoin = "round";
  let last = null;
  const place = (event) => { const box = canvas.getBoundingClientRect(); return [(event.clientX - box.left) * side / box.width, (event.clientY - box.top) * side / box.height]; };
  canvas.onpointerdown = (event) => { last = place(event); canvas.setPointerCapture(event.pointerId); canvas.onpointermove(event); };
  canvas.onpointermove = (event) => { if (!last) return; const now = place(event); ink.beginPath(); ink.moveTo(...last); ink.lineTo(now[0] + .01, now[1]); ink.stroke(); last = now; };
  canvas.onpointerup = canvas.onpointercancel = () => { last = null; };
  canvas.onkeydown = (event) => { if (event.key === "Delete" || event.key === "Backspace") clear(); };
  canvas.ondblclick = clear;
  return { element: canvas, stop: () => {}, take: () => new Promise((done) => canvas.toBlob(done, "image/png")) };
}

export async function microphone(seconds = 3) {
  const level = document.createElement("canvas"), context = new AudioContext();
  level.width = 600; level.height = 80; level.setAttribute("role", "img"); level.setAttribute("aria-label", "How loud it is");
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
  const source = context.createMediaStreamSource(stream), tap = context.createScriptProcessor(4096, 1, 1), ink = level.getContext("2d");
  let kept = null, across = 0;
  tap.onaudioprocess = (event) => {
    const wave = event.inputBuffer.getChannelData(0);
    if (kept) kept.push(new Float32Array(wave));
    const loud = Math.sqrt(wave.reduce((sum, value) => sum + value * value, 0) / wave.length);
    ink.clearRect(across, 0, 4, 80); ink.fillStyle = "#3b82f6"; ink.fillRect(across, 80 - 300 * loud, 3, 300 * loud);
    across = (across + 4) % 600;
  };
  source.connect(tap); tap.connect(context.destination);
  return {
    element: level,
    stop: () => { stream.getTracks().forEach((track) => track.stop()); context.close(); },
    take: async () => {
      await context.resume();
      kept = [];
      await new Promise((done) => setTimeout(done, 1000 * seconds + 200));
      const pieces = kept;
      kept = null;
      return wav(pieces, context.sampleRate);
    },
  };
}

function wav(pieces, rate) {
  const count = pieces.reduce((sum, piece) => sum + piece.length, 0), view = new DataView(new ArrayBuffer(44 + 2 * count));
  const put = (where, word) => [...word].forEach((letter, number) => view.setUint8(where + number, letter.charCodeAt(0)));
  put(0, "RIFF"); view.setUint32(4, 36 + 2 * count, true); put(8, "WAVEfmt "); view.setUint32(16, 16, true); view.setUint16(20, 1, true);
  view.setUint16(22, 1, true); view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true); put(36, "data"); view.setUint32(40, 2 * count, true);
  let where = 44;
  for (const piece of pieces) for (const value of piece) { view.setInt16(where, Math.max(-1, Math.min(1, value)) * 32767, true); where += 2; }
  return new Blob([view]);
}
