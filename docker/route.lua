-- Sends new image and segmentation series to the node; never what the node itself made.
function OnStableSeries(seriesId, tags, metadata)
  if tags['Manufacturer'] == 'Hepatocast' then return end
  if tags['Modality'] == 'CT' or tags['Modality'] == 'MR' or tags['Modality'] == 'SEG' then
    RestApiPost('/modalities/HEPATOCAST/store', '{"Resources": ["' .. seriesId .. '"], "Synchronous": false}')
  end
end
