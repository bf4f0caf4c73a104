// Opens a study in OHIF, shows series by the text of their thumbnail, and loads a report.
// node ohif_driver.cjs MODULES CHROMIUM VIEWER_URL STUDY_UID OUT_DIR SERIES_TEXT REPORT_TEXT
// Prints one JSON object: thumbnails, the text of the page after loading, errors of the page.
const path = require('path');
const [modules, chromium, viewer, study, out, seriesText, reportText] = process.argv.slice(2);
const puppeteer = require(path.join(modules, 'puppeteer-core'));

const THUMBNAIL = '[data-cy^="study-browser-thumbnail"]';
const LIMIT = { timeout: 90000, polling: 250 };

async function clickText(page, words) {
  return page.evaluate((wanted) => {
    const found = [...document.querySelectorAll('button, a, div, span')]
      .filter((e) => wanted.includes(e.textContent.trim()) && e.offsetParent).pop();
    if (found) found.click();
    return Boolean(found);
  }, words);
}

async function open(page, text) {
  const handle = await page.waitForFunction((selector, wanted) =>
    [...document.querySelectorAll(selector)].find((e) => e.textContent.includes(wanted)), LIMIT, THUMBNAIL, text);
  const element = handle.asElement();
  await element.evaluate((e) => e.scrollIntoView({ block: 'center' }));
  await page.waitForNetworkIdle({ idleTime: 500, timeout: 60000 }).catch(() => {});
  const box = await element.boundingBox();
  await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2, { count: 2, delay: 40 });
}

(async () => {
  const browser = await puppeteer.launch({
    executablePath: chromium, headless: true,
    args: ['--no-sandbox', '--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader',
      '--ignore-gpu-blocklist', '--window-size=1600,1000', '--disable-dev-shm-usage'],
  });
  const errors = [];
  try {
    const page = await browser.newPage();
    await page.setViewport({ width: 1600, height: 1000 });
    page.on('pageerror', (e) => errors.push(String(e).slice(0, 300)));
    await page.goto(`${viewer}/viewer?StudyInstanceUIDs=${study}`, { waitUntil: 'domcontentloaded', timeout: 60000 });
    await page.waitForSelector(THUMBNAIL, { timeout: 90000 });
    await page.waitForNetworkIdle({ idleTime: 1500, timeout: 60000 }).catch(() => {});
    await clickText(page, ['Skip all', 'Skip']);
    const thumbnails = await page.evaluate((s) =>
      [...document.querySelectorAll(s)].map((e) => e.textContent.slice(0, 120)), THUMBNAIL);
    await open(page, seriesText);
    await page.waitForFunction((t) => [...document.querySelectorAll('[data-cy="viewport-pane"], [data-cy^="viewport"]')]
      .some((e) => e.textContent.includes(t)) || document.body.innerText.includes(t), LIMIT, seriesText);
    await page.waitForNetworkIdle({ idleTime: 1500, timeout: 60000 }).catch(() => {});
    await page.screenshot({ path: path.join(out, 'virtual.png') });
    await open(page, reportText);
    await page.waitForNetworkIdle({ idleTime: 1500, timeout: 60000 }).catch(() => {});
    await page.screenshot({ path: path.join(out, 'report.png') });
    await page.waitForFunction(() => [...document.querySelectorAll('button, span')]
      .some((e) => ['Yes', 'Load', 'Hydrate'].includes(e.textContent.trim()) && e.offsetParent), LIMIT);
    const clicked = await clickText(page, ['Yes', 'Load', 'Hydrate']);
    await page.waitForFunction(() => !document.body.innerText.includes('continue tracking'), LIMIT).catch(() => {});
    await page.click('[data-cy="trackedMeasurements-btn"]');
    await page.waitForFunction(() => /\d+(\.\d+)?\s*mm/.test(document.body.innerText), LIMIT).catch(() => {});
    await page.waitForNetworkIdle({ idleTime: 1500, timeout: 60000 }).catch(() => {});
    await page.screenshot({ path: path.join(out, 'hydrated.png') });
    const text = await page.evaluate(() => document.body.innerText);
    console.log(JSON.stringify({ thumbnails, clicked, text, errors }));
  } finally {
    await browser.close();
  }
})().catch((e) => { console.error(e); process.exit(1); });
