
"use strict";
{
  const PLANES = [[0, 1], [0, 2], [1, 2]];  // axes to the right and up of axial, coronal and sagittal slices
  const SIDES = [  // of a voxel in a slice: the voxel next to it, and both ends of the side
    { next: [-1, 0], from: [0, 0], to: [0, 1] },
    { next: [1, 0], from: [1, 0], to: [1, 1] },
    { next: [0, -1], from: [0, 0], to: [1, 0] },
    { next: [0, 1], from: [0, 1], to: [1, 1] },
  ];
  const SLICES = "The slices above show the same scan and the same map.";
  const element = name => document.getElementById(name);
  const say = text => { element("viewer-message").textContent = text; };

  /** Return the text in gzip in base64. */
  async function unpacked(packed) {
    const bytes = Uint8Array.from(atob(packed), letter => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  /** Run niivue's module as a script of this page, because the page may load nothing. It ends with the event. */
  async function niivue() {
    const text = await unpacked(element("niivue").textContent);
    const script = document.createElement("script");
    script.type = "module";
    script.textContent = text;
    return new Promise((resolve, reject) => {
      document.addEventListener("niivue", event => resolve(event.detail), { once: true });
      window.addEventListener("error", event => reject(event.error), { once: true });
      document.head.append(script);
    });
  }

  async function open() {
    const settings = JSON.parse(element("viewer-settings").textContent);
    const { Niivue, NVImage } = await niivue();
    const view = new Niivue({
      logLevel: "error",
      dragAndDropEnabled: false,
      dragMode: 0,  // else the right button changes the contrast
      multiplanarLayout: 2,  // two by two
      multiplanarShowRender: 1,
      isForceMouseClickToVoxelCenters: true,
      showAllOrientationMarkers: true,
      show3Dcrosshair: true,
      crosshairColor: [1, 1, 1, 0.6],
      crosshairWidth: 0.3,
      multiplanarPadPixels: 12,
    });
    view.addColormap("yes", settings.yes);
    view.addColormap("no", settings.no);
    element("viewer-panel").hidden = false;
    await view.attachToCanvas(element("viewer-canvas"));
    const image = (name, options) => NVImage.loadFromBase64({ base64: settings[name], name: name + ".nii.gz", ...options });
    const scan = await image("scan", { colormap: "gray", cal_min: settings.dark, cal_max: settings.bright });
    const map = await image("map", {
      colormap: "yes", cal_min: settings.threshold, cal_max: settings.full,
      colormapNegative: "no", cal_minNeg: -settings.full, cal_maxNeg: -settings.threshold,
      opacity: settings.opacity,
    });
    const lesions = settings.lesions && await image("lesions");
    view.addVolume(scan);
    view.addVolume(map);
    view.onLocationChange = ({ mm, vox }) => {
      element("viewer-position").textContent = values(settings, mm, vox, scan, map, lesions);
    };
    element("map-opacity").addEventListener("input", event => view.setOpacity(1, Number(event.target.value)));
    if (lesions) drawOutlines(view, lesions, settings.green);
    view.scene.crosshairPos = view.vox2frac(settings.start);
    view.drawScene();
    view.createOnLocationChange();
  }

  /** Return what scan, map and lesions have at the cross-hair, in words. */
  function values(settings, mm, vox, scan, map, lesions) {
    const [x, y, z] = [...mm].map(Math.round);
    const place = `x = ${x} mm, y = ${y} mm, z = ${z} mm (MNI)`;
    const intensity = scan.getValue(...vox), relevance = map.getValue(...vox);
    if (intensity < settings.outside) return `${place}: outside the brain`;
    const words = [
      `map: ${relevance > 0 ? "+" : ""}${Number(relevance.toPrecision(2))} logit`,
      `scan: ${intensity.toFixed(settings.decimals)} ${settings.unit}`,
    ];
    const number = lesions ? lesions.getValue(...vox) : 0;
    if (lesions) words.push(number > 0 ? `lesion ${number}` : "no lesion");
    return `${place}; ${words.join("; ")}`;
  }

  /** Draw the outlines of lesions over the slices; niivue itself draws outlines below the map only. */
  function drawOutlines(view, lesions, colour) {
    const canvas = element("viewer-outlines"), pen = canvas.getContext("2d");
    const draw = view.drawScene.bind(view);
    view.drawScene = () => {
      draw();
      canvas.width = view.canvas.width;
      canvas.height = view.canvas.height;
      if (!element("viewer-lesions").checked) return;
      pen.strokeStyle = colour;
      pen.lineWidth = 1.5 * devicePixelRatio;
      pen.beginPath();
      PLANES.forEach((axes, plane) => outlineIn(plane, axes, view, lesions, pen));
      pen.stroke();
    };
    element("viewer-lesions").addEventListener("input", () => view.drawScene());
  }

  /** Draw the outlines of lesions in one slice: the sides of voxels between inside and outside. */
  function outlineIn(plane, [right, up], view, lesions, pen) {
    const centre = view.frac2vox(view.scene.crosshairPos);
    const at = (a, b) => { const voxel = [...centre]; voxel[right] = a; voxel[up] = b; return voxel; };
    const isInside = (a, b) => lesions.getValue(...at(a, b)) > 0;
    const [columns, rows] = [lesions.hdr.dims[right + 1], lesions.hdr.dims[up + 1]];
    const onCanvas = (a, b) => view.frac2canvasPosWithTile(view.vox2frac(at(a, b)), plane)?.pos;
    const first = onCanvas(0, 0), last = onCanvas(columns - 1, rows - 1);
    if (!first || !last) return;  // the slice is not shown
    const width = (last[0] - first[0]) / (columns - 1), height = (last[1] - first[1]) / (rows - 1);
    const corner = (a, b) => [first[0] + (a - 0.5) * width, first[1] + (b - 0.5) * height];
    for (let b = 1; b < rows - 1; b++) for (let a = 1; a < columns - 1; a++) {
      if (!isInside(a, b)) continue;
      for (const { next, from, to } of SIDES) {
        if (isInside(a + next[0], b + next[1])) continue;
        pen.moveTo(...corner(a + from[0], b + from[1]));
        pen.lineTo(...corner(a + to[0], b + to[1]));
      }
    }
  }

  element("open-viewer").addEventListener("click", async event => {
    const hasWebGL = document.createElement("canvas").getContext("webgl2") !== null;
    if (!hasWebGL || !("DecompressionStream" in window)) {
      say("This browser cannot show the viewer, because it lacks WebGL2 or DecompressionStream. " + SLICES);
      return;
    }
    event.target.disabled = true;
    say("Opening …");
    try {
      await open();
      event.target.hidden = true;
      say("");
    } catch (error) {
      element("viewer-panel").hidden = true;
      say(`The viewer could not be opened (${error.message}). ` + SLICES);
    }
  });
  // The page moves through its own slices by the same keys.
  element("viewer").addEventListener("keydown", event => event.stopPropagation());
}
